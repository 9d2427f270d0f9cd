"""The report in a headless Chromium, as people use it: with the mouse, the keys, a phone, in the dark and on paper."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lungseg.report.case_file import write_case
from lungseg.report.content import FoundTumour, Report, ScanReport
from lungseg.report.evaluation_page import write_report
from lungseg.report.scan_page import write_scan_report

from .browser import Browser, browser, needs_browser
from .reports import BAD_NAME, ELSEWHERE, TUMOUR, small_report, view

pytestmark = needs_browser
SCREEN = "document.getElementById('screen')"
BLUE, ORANGE = (86, 180, 233), (213, 94, 0)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return small_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(report, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def shown(chromium: Browser, page: Path) -> Browser:
    """The page on a desktop, in the light, fresh."""
    chromium.size(1200, 900)
    chromium.media()
    chromium.open(page)
    chromium.wait(f"{SCREEN}.dataset.z !== undefined")
    return chromium


def slice_shown(shown: Browser) -> int:
    return int(shown.run(f"{SCREEN}.dataset.z"))


def wait_for_slice(shown: Browser, z: int) -> None:
    shown.wait(f"{SCREEN}.dataset.z === '{z}'")


def outlined(shown: Browser, colour: tuple[int, int, int]) -> int:
    """Pixels of the outlines' canvas in a colour."""
    shown.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")
    return int(
        shown.run(
            "(() => { const c = document.getElementById('outlines'); let n = 0;"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            f"for (let i = 0; i < d.length; i += 4) n += d[i + 3] > 200 && Math.abs(d[i] - {colour[0]}) < 12 &&"
            f"Math.abs(d[i + 1] - {colour[1]}) < 12 && Math.abs(d[i + 2] - {colour[2]}) < 12; return n; }})()"
        )
    )


def choose(shown: Browser, case: str) -> None:
    shown.run(
        "(() => { const s = document.getElementById('patient');"
        f"s.selectedIndex = [...s.options].findIndex((o) => o.textContent.startsWith({case!r}));"
        "s.dispatchEvent(new Event('change')); })()"
    )


def column(shown: Browser, number: int) -> list[str]:
    return shown.run(
        f"[...document.querySelectorAll('table.sortable tbody tr')].map((r) => r.cells[{number}].innerText)"
    )


def click(shown: Browser, selector: str) -> None:
    shown.run(f"document.querySelector({selector!r}).click()")


def test_loads_without_a_complaint_or_a_request(shown: Browser, page: Path) -> None:
    assert shown.complaints() == []
    assert shown.requests() == [page.resolve().as_uri()]
    assert BAD_NAME in shown.run("document.body.innerText")
    assert shown.run("document.querySelectorAll('img').length") == 0


def test_a_request_and_an_error_would_have_been_seen(shown: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<!DOCTYPE html><img src='missing.png'><script>undefined.x</script>")
    shown.open(bad)
    shown.wait("document.images[0].complete")
    assert any(url.endswith("missing.png") for url in shown.requests())
    assert any("undefined" in text for text in shown.complaints())


def test_the_policy_stops_what_a_name_might_bring_in(shown: Browser) -> None:
    shown.run(
        "document.body.insertAdjacentHTML('beforeend',"
        '\'<img src="other.png" onerror="document.title = 1">\'); document.body.append(Object.assign('
        "document.createElement('script'), {textContent: 'document.title = 2'}));"
    )
    shown.wait("document.images[0].complete")
    assert shown.run("document.title").startswith("lungseg: ")
    assert any("Content Security Policy" in text for text in shown.complaints())


def test_the_table_sorts_by_number_and_by_name(shown: Browser) -> None:
    dices = [float(text) for text in column(shown, 1)]
    assert dices == sorted(dices) and len(dices) == 5
    heads = "table.sortable thead th:nth-child({}) button"
    click(shown, heads.format(2))
    assert [float(text) for text in column(shown, 1)] == dices[::-1]
    assert (
        shown.run("document.querySelector('table.sortable th:nth-child(2)').getAttribute('aria-sort')") == "descending"
    )
    click(shown, heads.format(1))
    names = column(shown, 0)
    assert names[-3:] == ["nothing", "perfect", "poor"] and names == sorted(names, key=str.lower)
    assert shown.run("document.querySelectorAll('table.sortable [aria-sort]').length") == 1


def test_it_begins_with_the_worst_patient_at_its_tumour(shown: Browser) -> None:
    assert shown.run("document.getElementById('patient').selectedOptions[0].textContent").startswith(BAD_NAME)
    assert slice_shown(shown) == 10
    assert outlined(shown, BLUE) > 100 and outlined(shown, ORANGE) == 0


def test_a_button_of_a_failed_patient_moves_the_viewer(shown: Browser) -> None:
    click(shown, "article a[data-z='15']")
    wait_for_slice(shown, 15)
    assert outlined(shown, ORANGE) > 100 and outlined(shown, BLUE) == 0
    assert "slice 15" in shown.run("document.getElementById('number').textContent")
    assert "Network: tumour here" in shown.run("document.getElementById('where').textContent")
    assert shown.run("document.activeElement.id") == "screen"


def test_the_slider_changes_the_picture(shown: Browser) -> None:
    code = "document.getElementById('picture').toDataURL()"
    before = shown.run(code)
    shown.run(
        "(() => { const s = document.getElementById('slice'); s.value = 0; s.dispatchEvent(new Event('input')); })()"
    )
    wait_for_slice(shown, 3)
    assert shown.run(code) != before and outlined(shown, BLUE) == 0


def test_windows_differ(shown: Browser) -> None:
    mean = (
        "(() => { const c = document.getElementById('picture').getContext('2d');"
        "const d = c.getImageData(0, 0, 512, 512).data;"
        "let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i]; return n / (512 * 512); })()"
    )
    lung = shown.run(mean)
    shown.run("document.querySelector('input[name=window][value=\"1\"]').click()")
    shown.wait(f"{mean} !== {lung}")
    assert lung > shown.run(mean) > 1


def test_keys_move_and_switch(shown: Browser) -> None:
    choose(shown, "good")
    wait_for_slice(shown, 10)
    shown.run(f"{SCREEN}.focus()")
    for key, z in (("ArrowUp", 11), ("ArrowRight", 12), ("ArrowDown", 11), ("ArrowLeft", 10), ("PageUp", 20),
                   ("PageDown", 10), ("End", 23), ("Home", 3), ("n", 10)):  # fmt: skip
        shown.press(key)
        wait_for_slice(shown, z)
    # Both run together here: the one shows between the dashes of the other.
    both = outlined(shown, BLUE), outlined(shown, ORANGE)
    assert min(both) > 100
    shown.press("t")
    shown.wait("!document.getElementById('show-truth').checked")
    assert outlined(shown, BLUE) == 0 and outlined(shown, ORANGE) >= both[1]
    shown.press("p")
    shown.wait("!document.getElementById('show-found').checked")
    assert outlined(shown, BLUE) == outlined(shown, ORANGE) == 0
    shown.press("w")
    shown.wait("document.querySelector('input[name=window][value=\"1\"]').checked")
    assert shown.complaints() == []


def test_wheel_and_finger_move(shown: Browser) -> None:
    shown.run(f"{SCREEN}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    x, y = shown.run(f"(() => {{ const r = {SCREEN}.getBoundingClientRect(); return [r.x + 100, r.y + 100]; }})()")
    top = shown.run("scrollY")
    shown.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-80)
    wait_for_slice(shown, 12)
    assert shown.run("scrollY") == top
    for kind, across in (("touchStart", 0), ("touchMove", 20), ("touchMove", 42), ("touchEnd", None)):
        points = [] if across is None else [{"x": x + across, "y": y}]
        shown.ask("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    shown.wait(f"Number({SCREEN}.dataset.z) > 13")


def test_everything_is_reached_by_tab_and_has_a_name(shown: Browser) -> None:
    names = shown.ask("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value")) for node in names if not node.get("ignored")
    ]  # fmt: skip
    wanted = {"button", "link", "slider", "checkbox", "radio", "combobox", "image", "img"}
    assert [role for role, name in named if role in wanted and not name] == []
    assert sum(role in ("image", "img") for role, _ in named) > 8
    assert shown.run("document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length") == 0
    levels = shown.run("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert max(after - before for before, after in pairwise(levels)) <= 1


CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (c) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = (c) => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const behind = (e) => {
    for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 250) return c; }
    return [255, 255, 255, 255];
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !e.checkVisibility()) continue;
    if (e.closest('script, style, .screen, title, desc')) continue;
    const style = getComputedStyle(e), ink = e.closest('svg') ? getComputedStyle(e).fill : style.color;
    const [a, b] = [light(rgb(ink)), light(behind(e))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.push(e.tagName + ' ' + ratio.toFixed(2) + ' ' + e.textContent.slice(0, 40));
  }
  return bad; })()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast_in_the_light_and_in_the_dark(shown: Browser, dark: bool) -> None:
    """4.5 to 1, as WCAG 2.2 asks for (1.4.3, level AA)."""
    shown.media(dark=dark)
    background = shown.run("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", background)[:3]))
    assert lightness < 120 if dark else lightness > 600
    assert shown.run(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_shows_it_without_scrolling_sideways(shown: Browser, page: Path, width: int) -> None:
    shown.size(width, 800, phone=True)
    shown.open(page)
    shown.wait(f"{SCREEN}.dataset.z !== undefined")
    assert shown.run("document.documentElement.scrollWidth") <= width
    outside = shown.run(
        "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.wide, svg') && e.checkVisibility() &&"
        f"e.getBoundingClientRect().right > {width} + 1).map((e) => e.tagName + e.className)"
    )
    assert outside == []
    picture = Image.open(io.BytesIO(shown.picture(whole=False)))
    assert picture.size == (width, 800) and len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_prints(shown: Browser) -> None:
    pdf = shown.printed()
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert pdf.startswith(b"%PDF") and 2 <= pages <= 8
    shown.media(kind="print")
    seen = "document.querySelector('{}').checkVisibility()"
    assert not shown.run(seen.format("#look")) and not shown.run(seen.format("nav"))
    assert shown.run(seen.format(".cards .tile")) and shown.run(seen.format("table.sortable"))


def test_the_page_of_a_scan_has_no_truth_to_show(chromium: Browser, tmp_path: Path) -> None:
    write_case(tmp_path / "scan.json", view(TUMOUR | ELSEWHERE))
    found = (
        FoundTumour(78.0, 71.0, (15, 17), 15, 0.9, "right side, middle third"),
        FoundTumour(35.0, 40.0, (10, 12), 10),
    )
    page = write_scan_report(
        ScanReport(BAD_NAME, found, tmp_path / "scan.json", settings=(("a", "b"),)), tmp_path / "s.html"
    )
    chromium.size(390, 844, phone=True)
    chromium.media()
    chromium.open(page)
    wait_for_slice(chromium, 15)
    assert outlined(chromium, ORANGE) > 100 and chromium.run("document.getElementById('show-truth')") is None
    click(chromium, "article a[data-z='10']")
    wait_for_slice(chromium, 10)
    assert chromium.run("document.getElementById('where').textContent").endswith("Network: tumour here.")
    assert "Truth" not in chromium.run("document.body.innerText")
    for key in ("t", "p"):
        chromium.press(key)
    chromium.wait("!document.getElementById('show-found').checked")
    assert outlined(chromium, ORANGE) == 0 and chromium.complaints() == []
    assert chromium.requests() == [page.as_uri()] and chromium.run("document.documentElement.scrollWidth") <= 390
    for dark in (False, True):
        chromium.media(dark=dark)
        assert chromium.run(CONTRAST) == []


def test_slices_in_a_file_of_their_own_are_one_click_away(chromium: Browser, report: Report, tmp_path: Path) -> None:
    page = write_report(report, tmp_path, most_bytes=1)
    chromium.size(1200, 900)
    chromium.media()
    chromium.open(page)
    assert chromium.run("document.getElementById('inside').hidden")
    click(chromium, "article a[data-z='15']")
    target = chromium.run("document.querySelector('#beside a').href")
    chromium.run("document.querySelector('#beside a').click()")
    chromium.wait(f"location.href === {target!r} && document.readyState === 'complete' && {SCREEN}.dataset.z === '15'")
    assert outlined(chromium, ORANGE) > 100 and chromium.complaints() == []
    chromium.run("document.querySelector('main a').click()")
    chromium.wait("location.href.endsWith('report.html')")

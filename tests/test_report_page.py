"""The page as a file: everything in it, nothing of it from elsewhere, and no name that can do harm."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from lungseg.errors import NOTICE
from lungseg.report.content import Curve, Patient, Report
from lungseg.report.evaluation_page import plots_of, write_report
from lungseg.report.plots import dice_plot, size_class, training_plots

from .reports import BAD_NAME, TUMOUR, small_report, write_patient


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside scripts and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._silent = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.texts.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return small_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(report, tmp_path_factory.mktemp("page")).read_text("utf-8")


def test_notice_and_numbers_are_there(page: str, report: Report) -> None:
    text = " ".join(Elements(page).texts)
    assert text.count(NOTICE) == 2
    assert f"{report.dice_mean:.2f}" in text and "between 0.10 and 0.80" in text and "3 of 5" in text
    assert all(plot.title in text for plot in plots_of(report)) and len(plots_of(report)) == 5


def test_nothing_comes_from_elsewhere(page: str) -> None:
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
    assert "@import" not in page and "url(" not in page


def test_the_policy_allows_the_pages_own_script_and_style_alone(page: str) -> None:
    policy = next(a["content"] for tag, a in Elements(page).found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_names_are_text_and_never_markup(page: str) -> None:
    elements = Elements(page)
    assert not [tag for tag, attributes in elements.found if tag == "img" or "onerror" in attributes]
    assert BAD_NAME in " ".join(elements.texts) and "Run <of> a test" in " ".join(elements.texts)
    assert "a slice is damaged & <i>gone</i>" in " ".join(elements.texts)


def test_slices_are_json_that_can_not_end_its_element(page: str) -> None:
    held = re.findall(r'<script type="application/json" id="case-(\d+)">(.*?)</script>', page, re.S)
    assert [int(number) for number, _ in held] == [0, 1, 2, 3, 4]
    for _, text in held:
        assert not set("<>&") & set(text)
        assert len(json.loads(text)["slices"]) > 10


def test_patients_without_room_have_files_of_their_own(report: Report, tmp_path: Path) -> None:
    strange = replace(report.patients[0], case="a b#c?%41ü")
    report = replace(report, patients=(strange, *report.patients[2:]))
    sizes = sorted(patient.pictures.stat().st_size for patient in report.patients if patient.pictures)
    most = 1_000_000 + sum(sizes) - sizes[-1] // 2
    page = write_report(report, tmp_path, most_bytes=most)
    text = page.read_text("utf-8")
    inside = set(re.findall(r'id="case-(\d+)"', text))
    files = [a["data-file"] for tag, a in Elements(text).found if tag == "option" and a.get("data-file")]
    assert 0 < len(inside) < 4 and len(files) == 4 - len(inside) and page.stat().st_size < most
    for name in files:
        beside = tmp_path / unquote(str(name))
        assert beside.parent.name == "report_files"
        other = beside.read_text("utf-8")
        assert NOTICE in other and 'id="case-0"' in other and "../report.html" in other


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    bare = Report("r", (Patient("a", 0.2, False), Patient("b", 0.9, False)), dice_mean=0.55, whole_scans=False)
    text = write_report(bare, tmp_path).read_text("utf-8")
    assert "Hausdorff" not in text and "Look for yourself" not in text and "true ml" not in text
    assert [plot.title for plot in plots_of(bare)] == ["Dice by patient"]


def test_of_slice_sets_no_volume_or_count_of_tumours_is_shown(report: Report, tmp_path: Path) -> None:
    sets = tuple(
        replace(p, truth_ml=None, predicted_ml=None, lesions=None, lesions_found=None, false_positives=None,
                tumour_slices=3, tumour_slices_found=1, false_slices=0) for p in report.patients
    )  # fmt: skip
    page = write_report(replace(report, patients=sets, whole_scans=False), tmp_path)
    text = " ".join(Elements(page.read_text("utf-8")).texts)
    assert " ml" not in text.replace("html", "") and "1 of 3" in text and "mean nothing there" in text


def test_a_rerun_gives_the_same_page(report: Report, tmp_path: Path) -> None:
    first, second = (write_report(report, tmp_path / name).read_bytes() for name in "ab")
    assert first == second


def test_plots_are_xml_with_words(report: Report) -> None:
    for plot in plots_of(report):
        root = ElementTree.fromstring(plot.svg)
        assert root.get("role") == "img" and plot.title in str(root.get("aria-label")) and plot.reading
        assert root[0].tag.endswith("title") and root[1].tag.endswith("desc")
        assert plot.rows and {len(row) for row in plot.rows} == {len(plot.header)}
        assert len(plot.svg) < 20_000


def test_marks_stand_where_their_values_are(report: Report) -> None:
    """The y axis runs from 244 (Dice 0) to 14 (Dice 1), the x axis of 35 ml from 10 to 100 ml."""
    root = ElementTree.fromstring(dice_plot(report).svg)
    discs = [element for element in root.iter() if element.tag.endswith("circle")]
    heights = sorted(float(disc.get("cy", "")) for disc in discs)
    good = next(patient for patient in report.patients if patient.case == "good")
    assert heights == pytest.approx([14.0, 14 + (1 - good.dice) * 230], abs=0.06)
    share = (float(discs[0].get("cx", "")) - 54) / (420 - 54 - 14)
    assert 10 ** (1 + share) == pytest.approx(34.56, rel=0.01)


def test_folds_share_a_name_and_a_colour() -> None:
    folds = [Curve("loss", "training", ((0.0, 1.0), (1.0, 0.5 + fold / 10))) for fold in range(3)]
    (plot,) = training_plots(folds)
    assert plot.svg.count("<polyline") == 3 and plot.svg.count(">training</text>") == 1


@pytest.mark.parametrize(
    ("volume", "name"),
    [(0.0, "under 1 ml"), (0.99, "under 1 ml"), (1.0, "1 to 5 ml"), (5.0, "5 to 20 ml"), (20.0, "over 20 ml")],
)
def test_size_classes(volume: float, name: str) -> None:
    assert size_class(volume) == name


def test_a_patient_with_markup_as_reason_is_harmless(tmp_path: Path) -> None:
    one = write_patient(tmp_path / "pictures", "a</script><script>alert(1)</script>", TUMOUR)
    text = write_report(Report("r", (one,), dice_mean=1.0), tmp_path).read_text("utf-8")
    assert len(re.findall(r"<script\b", text)) == 2

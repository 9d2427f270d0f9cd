"""The published methods on the page: every number where it belongs, names as text, nothing without a comparison."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lungseg.comparison import NOT_ALIKE
from lungseg.published import Against, PublishedCase, PublishedTable, against_published
from lungseg.report.against import HEADER, published_section, rows, scatter_plot
from lungseg.report.content import Patient, Report
from lungseg.report.evaluation_page import write_report

from .reports import BAD_NAME

OURS = {"plain": {"p": 0.75, BAD_NAME: 0.25, "r": 0.5}, "tuned": {"p": 0.8, BAD_NAME: 0.2, "r": 0.01}}
TABLE = PublishedTable(
    source="s",
    licence="l",
    citation="c",
    columns={"dice_a": "method <b>A</b>", "dice_b": "method B"},
    cases={
        name: PublishedCase(0, voxels, {"dice_a": dice, "dice_b": 0.0})
        for name, voxels, dice in (("p", 30, 0.5), (BAD_NAME, 20, 0.75), ("r", 10, 0.5))
    },
)


@pytest.fixture(scope="module")
def against() -> tuple[Against, ...]:
    return against_published(OURS, TABLE, list(TABLE.cases))


def report_of(against: tuple[Against, ...], **more: object) -> Report:
    patients = tuple(Patient(name, dice, False) for name, dice in OURS["plain"].items())
    return Report("r", patients, dice_mean=0.5, against=against, against_notes=("said <i>so</i>",), **more)  # type: ignore[arg-type]


def test_each_row_says_who_is_compared_with_whom(against: tuple[Against, ...]) -> None:
    shown = rows(against)
    assert len(shown) == 4 and {len(row) for row in shown} == {len(HEADER)}
    first = dict(zip(HEADER, shown[0], strict=True))
    assert first["published method"] == "method <b>A</b>" and first["our setting"] == "plain"
    assert (first["patients"], first["their mean Dice"], first["our mean Dice"]) == ("3", "0.583", "0.500")
    assert first["difference (95 % interval)"].startswith("-0.083 (-0.500 to +0.250)")
    assert (first["better"], first["worse"]) == ("1", "1")
    assert (first["smallest quarter, theirs"], first["smallest quarter, ours"]) == ("0.500", "0.500")
    last = dict(zip(HEADER, shown[3], strict=True))
    assert (last["our setting"], last["under 0.05, theirs"], last["under 0.05, ours"]) == ("tuned", "3", "1")


def test_a_mark_a_patient_above_or_below_the_line(against: tuple[Against, ...]) -> None:
    plot = scatter_plot(against[0])
    root = ElementTree.fromstring(plot.svg)
    discs = [element for element in root.iter() if element.tag.endswith("circle")]
    (disc,) = discs  # p alone is better here; the axes run from 54 to 406 and from 244 to 14
    assert float(disc.get("cx", "")) == pytest.approx(54 + 0.5 * 352) and float(disc.get("cy", "")) == pytest.approx(
        14 + 0.25 * 230
    )
    assert "discs, 1" in plot.reading and "triangles, 2" in plot.reading
    assert len(plot.rows) == 3 and {len(row) for row in plot.rows} == {len(plot.header)}


def test_the_plots_show_the_setting_of_the_page(against: tuple[Against, ...]) -> None:
    section = published_section(report_of(against))
    assert section is not None and len(section.plots) == 2 and section.notes == ("said <i>so</i>",)
    unlike = tuple(replace(one, comparison=replace(one.comparison, note=NOT_ALIKE)) for one in against)
    section = published_section(report_of(unlike))
    assert section is not None and section.notes == ("said <i>so</i>", NOT_ALIKE)
    assert published_section(report_of(())) is None


class Elements(HTMLParser):
    """Names of all elements, and the text outside scripts and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text, self._silent = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._silent else data


def test_names_and_notes_are_text_and_never_markup(against: tuple[Against, ...], tmp_path: Path) -> None:
    page = Elements(write_report(report_of(against), tmp_path).read_text("utf-8"))
    assert "Against published methods" in page.text and "method <b>A</b>" in page.text and "said <i>so</i>" in page.text
    assert not {"i", "img"} & set(page.names) and BAD_NAME in page.text


def test_without_published_methods_the_page_has_no_such_part(tmp_path: Path) -> None:
    page = Elements(write_report(report_of(()), tmp_path).read_text("utf-8"))
    assert "published" not in page.text.lower()

"""The page of an evaluation: ``report.html``, and the slices of patients that it has no room for beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lungseg.errors import printable
from lungseg.files import make_folder
from lungseg.lesions import RULE

from .against import published_section
from .case_file import file_name, read_case
from .content import FAILED_BELOW, Patient, Report
from .page import ViewedCase, write_page
from .pictures import KeyImage
from .plots import dice_plot, free_response_plot, reliability_plot, training_plots
from .svg import Plot
from .wording import count, reason, summary

PAGE, BESIDE = "report.html", "report_files"
MOST_BYTES = 25_000_000
_TEXT_BYTES = 1_000_000  # of the page without slices: scripts, plots, key images, table
_MOST_CARDS = 12
_SECTIONS = (
    ("against", "Published methods"),
    ("failed", "Failures"),
    ("look", "Slices"),
    ("patients", "All patients"),
    ("plots", "Plots"),
    ("how", "How this was made"),
)


@dataclass(frozen=True)
class _Column:
    name: str
    number: bool = True
    sorted: bool = False


@dataclass(frozen=True)
class _Cell:
    text: str
    value: float | str | None = None
    kind: str = ""


def write_report(report: Report, folder: str | Path, *, most_bytes: int = MOST_BYTES) -> Path:
    """Write ``report.html``; patients whose slices do not fit have them in ``report_files/<case>.html``.

    Args:
        report: what it says.
        folder: where to; made if it is missing.
        most_bytes: of ``report.html``.

    Returns:
        The page's path.

    Raises:
        DataError: the pictures of a patient are damaged.
        MachineError: the disk is full or the file can not be written.
    """
    folder = make_folder(folder)
    patients = report.worst_first
    keys: dict[str, tuple[KeyImage, ...]] = {}
    for patient in patients:
        if patient.pictures is not None:
            keys[patient.case] = read_case(patient.pictures)[1].keys
    viewed = [patient for patient in patients if patient.case in keys]
    inside = _inside(viewed, most_bytes - _TEXT_BYTES - sum(len(key.grey) for part in keys.values() for key in part))
    for stale in (folder / BESIDE).glob("*.html"):
        stale.unlink()
    for patient in viewed:
        if patient.case not in inside:
            _write_beside(report, patient, keys[patient.case], folder)
    write_page(folder / PAGE, "evaluation.html", _values(report, patients, viewed, inside, keys))
    return folder / PAGE


def plots_of(report: Report) -> list[Plot]:
    """Every plot that there are numbers for."""
    plots = [dice_plot(report)] if report.patients else []
    plots += training_plots(report.curves)
    if report.free_response:
        plots.append(free_response_plot(report.free_response, report.threshold))
    if report.calibration is not None and report.calibration.bins:
        plots.append(reliability_plot(report.calibration))
    return plots


def _inside(viewed: list[Patient], room: int) -> set[str]:
    """The patients whose slices fit the page, the worst first."""
    inside = set()
    for patient in viewed:
        assert patient.pictures is not None
        size = patient.pictures.stat().st_size
        if size <= room:
            inside.add(patient.case)
            room -= size
    return inside


def _values(
    report: Report,
    patients: tuple[Patient, ...],
    viewed: list[Patient],
    inside: set[str],
    keys: dict[str, tuple[KeyImage, ...]],
) -> dict[str, Any]:
    failed = report.failed
    numbers = {patient.case: number for number, patient in enumerate(viewed)}
    whole = report.whole_scans
    why = {patient.case: _sentence(reason(patient, whole_scans=whole)) for patient in patients}
    shown = failed[:_MOST_CARDS] or patients[: min(3, len(patients))]
    cards = [
        {
            **_name(patient, numbers),
            "why": why[patient.case],
            "shots": [(key, _alt(patient, key)) for key in keys.get(patient.case, ())[:2]],
        }
        for patient in shown
    ]
    tiles = [
        {**_name(patient, numbers), "key": keys[patient.case][0], "label": _alt(patient, keys[patient.case][0])}
        for patient in viewed
    ]
    hidden = len(failed) - _MOST_CARDS
    cases = [
        ViewedCase(
            text=f"{printable(patient.case)}: {_verdict(patient)}",
            z=keys[patient.case][0].z,
            source=patient.pictures or Path(),
            why=why[patient.case],
            file="" if patient.case in inside else f"{BESIDE}/{quote(file_name(patient.case, '.html'))}",
        )
        for patient in viewed
    ]
    columns, rows = _table(report, patients, why)
    published = published_section(report)
    missing = {name for name, there in (("look", cases), ("against", published)) if not there}
    sections = [part for part in _SECTIONS if part[0] not in missing]
    return {
        "title": f"lungseg: {printable(report.title)}",
        "heading": "How well does the network outline lung tumours?",
        "subtitle": printable(report.title),
        "sections": sections,
        "labelled": True,
        "cases": cases,
        "settings": [(name, printable(value)) for name, value in report.settings],
        "summary": summary(report),
        "tiles": tiles,
        "notes": report.notes,
        "published": published,
        "failed_title": count(len(failed), "patient") + " failed, and why" if failed else "None failed; the worst were",
        "failed_rule": f"Failed means: the tumour was missed altogether, or Dice is under {FAILED_BELOW}. Worst first.",
        "cards": cards,
        "failed_more": f"{hidden} more failed: the table below says why." if hidden > 0 else "",
        "not_scored": [(printable(case), printable(what)) for case, what in sorted(report.not_scored.items())],
        "columns": columns,
        "rows": rows,
        "columns_note": _columns_note(report),
        "plots": plots_of(report),
    }  # fmt: skip


def _table(
    report: Report, patients: tuple[Patient, ...], why: dict[str, str]
) -> tuple[list[_Column], list[list[_Cell]]]:
    """The columns that there are numbers for, and a row a patient."""
    whole = report.whole_scans
    known: list[tuple[str, bool, Any]] = [
        ("true ml", whole, lambda p: _number(p.truth_ml, 2)),
        ("found ml", whole, lambda p: _number(p.predicted_ml, 2)),
        ("surface Dice, 2 mm", whole, lambda p: _number(p.nsd_2mm, 3)),
        ("Hausdorff 95 %, mm", whole, lambda p: _number(p.hd95_mm, 1)),
        ("tumours found", whole, lambda p: _of(p.lesions_found, p.lesions)),
        ("false positives", whole, lambda p: _number(p.false_positives, 0)),
        ("slices found", not whole, lambda p: _of(p.tumour_slices_found, p.tumour_slices)),
        ("false slices", not whole, lambda p: _number(p.false_slices, 0)),
        ("fold", True, lambda p: _number(p.fold, 0)),
    ]
    used = [(name, cell) for name, wanted, cell in known if wanted and any(cell(p).text for p in patients)]
    columns = [_Column("patient", number=False), _Column("Dice", sorted=True)]
    columns += [_Column(name) for name, _ in used] + [_Column("why", number=False)]
    rows = []
    for patient in patients:
        dice = _Cell(f"{patient.dice:.3f}", patient.dice, "n fail" if patient.failed else "n")
        cells = [cell(patient) for _, cell in used]
        name = printable(patient.case)
        rows.append([_Cell(name), dice, *cells, _Cell(why[patient.case], kind="why")])
    return columns, rows


def _of(part: int | None, whole: int | None) -> _Cell:
    if part is None or not whole:
        return _Cell("", "", "n")
    return _Cell(f"{part} of {whole}", part / whole, "n")


def _number(value: float | None, places: int) -> _Cell:
    return _Cell("", "", "n") if value is None else _Cell(f"{value:.{places}f}", value, "n")


def _columns_note(report: Report) -> str:
    if not report.whole_scans:
        return (
            "These patients are sets of slices with gaps between them: volumes, distances and counts of tumours mean "
            "nothing there and are left out. Slices found: slices with true tumour in which some of it was outlined."
        )
    note = "True and found: volume of the true outline and of the network's."
    if any(patient.nsd_2mm is not None for patient in report.patients):
        note += (
            " Surface Dice: share of the two surfaces that lies within 2 mm of the other; 1 is best. Hausdorff 95 %: "
            "95 % of the surfaces are closer to each other than this."
        )
    if any(patient.lesions is not None for patient in report.patients):
        note += f" Tumours found and false positives: {RULE} In the last column a false positive touches no tumour."
    return note


def _write_beside(report: Report, patient: Patient, keys: tuple[KeyImage, ...], folder: Path) -> None:
    """A page with the viewer alone."""
    beside = make_folder(folder / BESIDE)
    assert patient.pictures is not None
    why = _sentence(reason(patient, whole_scans=report.whole_scans))
    case = ViewedCase(f"{printable(patient.case)}: {_verdict(patient)}", keys[0].z, patient.pictures, why)
    write_page(
        beside / file_name(patient.case, ".html"),
        "beside.html",
        {
            "title": f"lungseg: {printable(patient.case)}",
            "heading": printable(patient.case),
            "subtitle": f"{_verdict(patient)}. {printable(report.title)}",
            "sections": [],
            "labelled": True,
            "cases": [case],
            "settings": [],
            "back": f"../{PAGE}",
        },
    )


def _name(patient: Patient, numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "case": printable(patient.case),
        "number": numbers.get(patient.case, 0),
        "dice": f"{patient.dice:.2f}",
        "failed": patient.failed,
        "missed": patient.missed,
    }


def _verdict(patient: Patient) -> str:
    return "missed" if patient.missed else f"Dice {patient.dice:.2f}"


def _alt(patient: Patient, key: KeyImage) -> str:
    outlines = " and ".join(whose for whose, path in (("the true", key.truth), ("the network's", key.found)) if path)
    what = f"with {outlines} outline" if outlines else "no outline"
    return f"{printable(patient.case)}, {_verdict(patient)}: slice {key.z}, {key.label}, {what}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""

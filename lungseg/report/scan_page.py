"""The page of one predicted scan: what was outlined, how large it is, and what it looks like."""

from __future__ import annotations

from pathlib import Path

from lungseg.errors import printable
from lungseg.files import make_folder
from lungseg.place import place

from .case_file import read_case
from .content import FoundTumour, ScanReport
from .page import ViewedCase, write_page
from .wording import count, millilitres, scan_summary


def write_scan_report(report: ScanReport, out: str | Path) -> Path:
    """Write the page of one scan.

    Args:
        report: what it says.
        out: the file.

    Returns:
        The page's path.

    Raises:
        DataError: the scan's pictures are damaged.
        MachineError: the disk is full or the file can not be written.
    """
    out = place(out)
    make_folder(out.parent)
    keys = read_case(report.pictures)[1].keys
    shown = report.tumours[: len(keys)]
    name = printable(report.case)
    cards = [
        {
            "name": f"Region {number}",
            "size": millilitres(tumour.volume_ml),
            "text": _text(tumour),
            "z": key.z,
            "key": key,
            "label": f"slice {key.z}, region {number}, outlined by the network",
        }
        for number, (tumour, key) in enumerate(zip(shown, keys, strict=False), start=1)
    ]
    hidden = len(report.tumours) - len(shown)
    more = f"{count(hidden, 'smaller region')} more: the list is in the JSON file beside the mask." if hidden else ""
    values = {
        "title": f"lungseg: {name}",
        "heading": "What did the network outline?",
        "subtitle": name,
        "sections": [],
        "labelled": False,
        "cases": [ViewedCase(name, keys[0].z, report.pictures)],
        "settings": [(key, printable(value)) for key, value in report.settings],
        "summary": scan_summary(report),
        "warnings": [printable(text) for text in report.warnings],
        "cards": cards,
        "more": more,
        "key": keys[0],
    }
    write_page(out, "scan.html", values)
    return out


def _text(tumour: FoundTumour) -> str:
    first, last = tumour.slices
    spread = f"slice {first}" if first == last else f"slices {first} to {last}"
    place = f"; {tumour.place}" if tumour.place else ""
    sure = "" if tumour.mean_probability is None else f"; mean probability {tumour.mean_probability:.2f}"
    return f"{tumour.diameter_mm:.0f} mm across, {spread}{place}{sure}."

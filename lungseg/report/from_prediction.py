"""From a prediction, while its mask is at hand, to the page of the scan."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lungseg.files import TEMPORARY_PREFIX
from lungseg.place import is_remote, place

from .case_file import CaseView, write_case
from .content import FoundTumour, ScanReport
from .findings import Spot
from .page import GENERATOR
from .scan_page import write_scan_report

BUDGET_BYTES = 6_000_000  # of the slices: of most scans all of them


def write_prediction_page(out: str | Path, record: Mapping[str, Any], view: CaseView) -> Path:
    """Write the page of one predicted scan.

    Args:
        out: the file; its folder must exist.
        record: the JSON that stands beside the mask.
        view: the scan and its mask.

    Raises:
        MachineError: the disk is full or the file can not be written.
    """
    out = place(out)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=None if is_remote(out) else out.parent) as folder:
        pictures = Path(folder) / "pictures.json"
        spots = write_case(pictures, view, budget=BUDGET_BYTES).found
        # Both list the largest first, by the same rule; of the smallest there are no spots.
        seen = [*spots, *[None] * len(record["tumours"])]
        found = tuple(_tumour(part, spot) for part, spot in zip(record["tumours"], seen, strict=False))
        model, settings = record["model"], record["settings"]
        shown = {
            "recipe": model.get("recipe"),
            "neighbours on each side": model.get("neighbours"),
            "mirror images predicted too": "yes" if model.get("test_mirror") else None,
            "other zooms predicted too": ", ".join(f"{zoom:g}" for zoom in model.get("test_zooms", ())),
            "fold": model.get("fold"),
            "weights' SHA-256": model.get("sha256"),
            "threshold": settings.get("threshold"),
            "tumours dropped below, ml": settings.get("smallest_ml") or None,
            "tumours dropped below, share of the heaviest": settings.get("smallest_share") or None,
            "slices skipped at the feet end": settings.get("skipped"),
            "mask": record["mask"]["file"],
            "its hash (XXH3-128)": record["mask"]["hash"],
        }
        report = ScanReport(
            case=record["case"],
            tumours=found,
            pictures=pictures,
            warnings=tuple(record["warnings"]),
            settings=tuple((name, str(value)) for name, value in shown.items() if value not in (None, "")),
            threshold=settings.get("threshold"),
        )
        return write_scan_report(report, out)


def _tumour(part: Mapping[str, Any], spot: Spot | None) -> FoundTumour:
    first, last = part["slices"]
    return FoundTumour(
        volume_ml=part["volume_ml"],
        diameter_mm=part["diameter_mm"],
        slices=(first, last),
        slice=first if spot is None else spot.slice,
        mean_probability=part["mean_probability"],
        place="" if spot is None else spot.place,
    )


def remove_stale_page(page: Path) -> None:
    """Remove the page of an older mask; a file that this package has not made stays."""
    with contextlib.suppress(OSError):
        with page.open("rb") as file:
            ours = GENERATOR.encode() in file.read(4096)
        if ours:
            page.unlink()

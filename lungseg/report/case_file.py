"""All that a page shows of one patient, made while the patient's masks are at hand, in a file of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np

from lungseg.digests import digest, seal
from lungseg.errors import DataError
from lungseg.geometry import SliceGrid
from lungseg.records import read_json, write_json

from .findings import Findings, Places, find
from .pictures import BUDGET_BYTES, Look, Pictures, render

FORMAT = 1
MOST_LOOKS = 12
_LONGEST = 150  # characters of a file's name without its suffix
_MEND = "Run the command that made it again."


@dataclass(frozen=True)
class CaseView:
    """One patient, as a page needs it.

    Args:
        image: the slice of an index as the network saw it, ``float16 [size, size]``, HU / 3071; called for some slices,
            in any order.
        shown: indices of the slices that the network saw, rising.
        grid: the step from the scan's own pictures to slices.
        spacing_mm: voxel size along L, A, S.
        found: the prediction ``[L, A, S]``, tumour where it is not 0.
        truth: the label, likewise; None where there is none.
        whole: False where slices have gaps.
    """

    image: Callable[[int], np.ndarray]
    shown: Sequence[int]
    grid: SliceGrid
    spacing_mm: tuple[float, float, float]
    found: np.ndarray = field(repr=False)
    truth: np.ndarray | None = field(default=None, repr=False)
    whole: bool = True


def file_name(case: str, suffix: str) -> str:
    """A file's name for a patient that any file system takes and that no other patient has."""
    plain = quote(os.fsencode(case), safe=" ")
    return f"{plain if len(plain) <= _LONGEST else digest(plain.encode())}{suffix}"


def write_case(path: str | Path, view: CaseView, *, budget: int = BUDGET_BYTES) -> Findings:
    """Find out what the masks show, render the slices, and write both; one slice is in memory at a time.

    Args:
        path: the file; its folder must exist.
        view: the patient.
        budget: bytes that the slices may take.
    """
    places = Places(view.image, view.shown, view.grid, view.spacing_mm, whole=view.whole)
    voxel_ml = float(np.prod(view.spacing_mm)) / 1000.0
    findings = find(view.truth, view.found, voxel_ml, places)
    looks = _looks(findings, view)
    pictures = render(view.image, view.shown, view.truth, view.found, view.grid, looks, budget=budget)
    content = {"format": FORMAT, "findings": findings.as_dict(), "pictures": pictures.as_dict()}
    write_json(path, {**content, "seal": seal(content)}, durable=False)
    return findings


def read_case(path: str | Path) -> tuple[Findings, Pictures]:
    """What :func:`write_case` wrote.

    Raises:
        DataError: the file is missing, or is not what was written.
    """
    content = read_json(path, error=DataError, mend=_MEND)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        if content.pop("seal") != seal(content):
            raise ValueError("other values than were written")
        return Findings.from_dict(content["findings"]), Pictures.from_dict(content["pictures"])
    except (KeyError, TypeError, ValueError, IndexError) as cause:
        raise DataError.of(
            "bad-pictures", "holds no pictures of a patient", found=str(cause), file=path, mend=_MEND
        ) from cause


def _looks(findings: Findings, view: CaseView) -> list[Look]:
    """Of a labelled patient the largest true tumour and the largest false positive, of another each find."""
    if view.truth is None:
        looks = [Look(f"tumour {number}", spot.slice, spot.box) for number, spot in enumerate(findings.found, 1)]
    else:
        false = findings.largest_false
        looks = [Look("largest true tumour", spot.slice, spot.box) for spot in findings.truth[:1]]
        looks += [Look("largest false positive", false.slice, false.box)] if false is not None else []
    middle = Look("middle of the scan", view.shown[len(view.shown) // 2])
    return looks[:MOST_LOOKS] or [middle]

"""The measures of one patient's mask against the truth; docs/measures.md defines each, with a rule for empty masks."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from .files import atomic_write
from .lesions import Lesion, match_lesions
from .metrics import dice_of_counts
from .surfaces import surface_distances

# What means nothing on a slice set, whose stack has gaps: neither a distance nor a volume nor a connected lesion.
NEEDS_WHOLE_SCAN = ("nsd_2mm", "hd95_mm", "truth_ml", "predicted_ml", "volume_error_ml", "volume_error_percent",
                    "truth_skipped_ml", "lesions", "lesions_found", "false_positives")  # fmt: skip
_NOT_WRITTEN = ("slice_set", "details")


@dataclass(frozen=True)
class CaseScore:
    """How well one patient's mask fits, on the scan's own grid.

    Of a slice set everything that needs a whole scan is None, and left out of tables and files.

    Args:
        case: name of the patient.
        dice: 0 to 1; 1 where both masks are empty, 0 where one is.
        truth_ml: true tumour volume.
        predicted_ml: predicted tumour volume.
        volume_error_ml: predicted minus true.
        volume_error_percent: the same as a share of the true volume; None without true tumour.
        missed: whether there is true tumour of which no voxel was found.
        truth_skipped_ml: true volume in slices that were dropped; it counts as not found in all the other numbers.
        nsd_2mm: normalised surface Dice at 2 mm, 0 to 1; 1 where both masks are empty, 0 where one is.
        hd95_mm: Hausdorff distance, 95 %; 0 where both masks are empty, None where one is.
        lesions: true lesions (connected components).
        lesions_found: those of them that a predicted one matches (``lesions.RULE``).
        false_positives: predicted lesions that match none.
        truth_voxels: true tumour voxels.
        predicted_voxels: predicted tumour voxels.
        tumour_slices: axial slices with true tumour.
        tumour_slices_found: those of them in which a voxel of it was found.
        false_slices: axial slices with predicted tumour and no true one.
        slice_set: whether the stack has gaps.
        details: every lesion, true and predicted.
    """

    case: str
    dice: float
    truth_ml: float | None
    predicted_ml: float | None
    volume_error_ml: float | None
    volume_error_percent: float | None
    missed: bool
    truth_skipped_ml: float | None = 0.0
    nsd_2mm: float | None = None
    hd95_mm: float | None = None
    lesions: int | None = None
    lesions_found: int | None = None
    false_positives: int | None = None
    truth_voxels: int = 0
    predicted_voxels: int = 0
    tumour_slices: int = 0
    tumour_slices_found: int = 0
    false_slices: int = 0
    slice_set: bool = False
    details: tuple[Lesion, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, numbers rounded to 6 places; without what is not meant for a slice set."""
        values = {name: getattr(self, name) for name in columns(self.slice_set)}
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in values.items()}


def columns(slice_set: bool) -> tuple[str, ...]:
    """Names of the measures that are written, in order."""
    without = (*_NOT_WRITTEN, *NEEDS_WHOLE_SCAN) if slice_set else _NOT_WRITTEN
    return tuple(item.name for item in fields(CaseScore) if item.name not in without)


def score_case(
    case: str,
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: tuple[float, float, float],
    *,
    skipped_voxels: int = 0,
    slice_set: bool = False,
) -> CaseScore:
    """Measure one patient on the scan's own grid.

    Args:
        case: name of the patient.
        truth: ``[x, y, z]``, tumour where it is not 0; z is axial.
        prediction: the same shape.
        spacing_mm: voxel size along these axes.
        skipped_voxels: true voxels in slices that were dropped.
        slice_set: whether the stack has gaps, so that distances, volumes and lesions mean nothing.

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, the prediction {prediction.shape}")
    counts = np.array([_voxels_by_slice(mask) for mask in (truth, prediction)])
    both = _voxels_by_slice(np.logical_and(truth, prediction))
    true, found, overlap = int(counts[0].sum()), int(counts[1].sum()), int(both.sum())
    score: dict[str, Any] = {
        "case": case,
        "dice": dice_of_counts(overlap, true, found),
        "missed": true > 0 and overlap == 0,
        "truth_voxels": true,
        "predicted_voxels": found,
        "tumour_slices": int(np.count_nonzero(counts[0])),
        "tumour_slices_found": int(np.count_nonzero(both)),
        "false_slices": int(np.count_nonzero((counts[1] > 0) & (counts[0] == 0))),
    }
    if slice_set:
        return CaseScore(**score, **_nothing(), slice_set=True)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    surfaces = surface_distances(truth, prediction, spacing_mm)
    lesions = match_lesions(truth, prediction, spacing_mm)
    outcomes = [(lesion.kind, lesion.outcome) for lesion in lesions]
    return CaseScore(
        **score,
        truth_ml=true * voxel_ml,
        predicted_ml=found * voxel_ml,
        volume_error_ml=(found - true) * voxel_ml,
        volume_error_percent=100.0 * (found - true) / true if true else None,
        truth_skipped_ml=skipped_voxels * voxel_ml,
        nsd_2mm=surfaces.dice(),
        hd95_mm=surfaces.hausdorff_mm(),
        lesions=sum(kind == "true" for kind, _ in outcomes),
        lesions_found=outcomes.count(("true", "matched")),
        false_positives=outcomes.count(("predicted", "false")),
        details=lesions,
    )


def _nothing() -> dict[str, Any]:
    return dict.fromkeys(NEEDS_WHOLE_SCAN)


def write_csv(path: str | Path, scores: Sequence[CaseScore]) -> None:
    """One row a patient, in one step; columns that mean nothing for any of them are left out."""
    text = io.StringIO()
    names = columns(all(score.slice_set for score in scores))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    for score in scores:
        writer.writerow({key: "" if value is None else value for key, value in score.as_dict().items()})
    atomic_write(path, text.getvalue().encode("utf-8", "surrogateescape"), durable=True)


def _voxels_by_slice(mask: np.ndarray) -> np.ndarray:
    """Voxels that are not 0 in each axial plane of ``[x, y, z]``."""
    return np.array([np.count_nonzero(plane) for plane in np.moveaxis(mask, 2, 0)], np.int64)

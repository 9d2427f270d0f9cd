"""The measures of one patient's mask against the truth, and what they say over patients."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .errors import printable
from .files import atomic_write
from .metrics import dice_of_counts
from .statistics import CONFIDENCE, bootstrap_interval


@dataclass(frozen=True)
class CaseScore:
    """How well one patient's mask fits.

    Args:
        case: name of the patient.
        dice: 0 to 1; 1 where both masks are empty, 0 where one is.
        truth_ml: true tumour volume.
        predicted_ml: predicted tumour volume.
        volume_error_ml: predicted minus true.
        volume_error_percent: the same as a share of the true volume; None without true tumour.
        missed: whether there is true tumour of which no voxel was found.
        truth_skipped_ml: true volume in slices that were dropped; it counts as not found in all the other numbers.
    """

    case: str
    dice: float
    truth_ml: float
    predicted_ml: float
    volume_error_ml: float
    volume_error_percent: float | None
    missed: bool
    truth_skipped_ml: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values; numbers rounded to 6 places."""
        return {key: round(value, 6) if type(value) is float else value for key, value in asdict(self).items()}


def score_case(
    case: str, truth: np.ndarray, prediction: np.ndarray, voxel_ml: float, *, skipped_voxels: int = 0
) -> CaseScore:
    """Measure one patient on the scan's own grid.

    Args:
        case: name of the patient.
        truth: ``[x, y, z]``, tumour where it is not 0.
        prediction: the same shape.
        voxel_ml: volume of a voxel, millilitres.
        skipped_voxels: true voxels in slices that were dropped.

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, the prediction {prediction.shape}")
    true = int(np.count_nonzero(truth))
    found = int(np.count_nonzero(prediction))
    overlap = int(np.count_nonzero(np.logical_and(truth, prediction)))
    return CaseScore(
        case=case,
        dice=dice_of_counts(overlap, true, found),
        truth_ml=true * voxel_ml,
        predicted_ml=found * voxel_ml,
        volume_error_ml=(found - true) * voxel_ml,
        volume_error_percent=100.0 * (found - true) / true if true else None,
        missed=true > 0 and overlap == 0,
        truth_skipped_ml=skipped_voxels * voxel_ml,
    )


def over_patients(scores: Sequence[CaseScore], *, complete: bool) -> dict[str, Any]:
    """Mean, median and bootstrap interval of Dice over patients, and how many were missed.

    Args:
        scores: one a patient.
        complete: whether these are all the patients there are; otherwise no mean is given, because leaving out the ones
            that failed would flatter it.
    """
    values = np.array([score.dice for score in scores])
    whole = complete and values.size > 0
    interval = bootstrap_interval(values) if whole else None
    return {
        "patients": len(scores),
        "complete": complete,
        "dice_mean": round(float(values.mean()), 6) if whole else None,
        "dice_median": round(float(np.median(values)), 6) if whole else None,
        "dice_interval": None if interval is None else [round(end, 6) for end in interval],
        "dice_interval_confidence": CONFIDENCE,
        "missed": sum(score.missed for score in scores),
    }


def write_csv(path: str | Path, scores: Sequence[CaseScore]) -> None:
    """One row a patient, in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(CaseScore)], lineterminator="\n")
    writer.writeheader()
    for score in scores:
        writer.writerow({key: "" if value is None else value for key, value in score.as_dict().items()})
    atomic_write(path, text.getvalue().encode("utf-8", "surrogateescape"), durable=True)


def table(scores: Sequence[CaseScore], summary: dict[str, Any]) -> str:
    """A line a patient, worst first, and the numbers over patients."""
    width = max([len(printable(score.case)) for score in scores] + [7])
    lines = [f"{'patient':<{width}}   Dice   true ml   found ml"]
    for score in sorted(scores, key=lambda score: (score.dice, score.case)):
        note = "  missed" if score.missed else ""
        if score.truth_skipped_ml:
            note += f"  {score.truth_skipped_ml:.2f} ml in skipped slices"
        name = printable(score.case)
        lines.append(f"{name:<{width}}  {score.dice:.3f}  {score.truth_ml:8.2f}  {score.predicted_ml:9.2f}{note}")
    if summary["dice_mean"] is None:
        lines.append(f"no mean: only {len(scores)} patients could be scored, not all")
        return "\n".join(lines)
    interval = summary["dice_interval"]
    between = f" ({CONFIDENCE:.0%} interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    count = "1 patient" if summary["patients"] == 1 else f"{summary['patients']} patients"
    lines.append(
        f"mean Dice over {count} {summary['dice_mean']:.3f}{between}, "
        f"median {summary['dice_median']:.3f}, {summary['missed']} missed"
    )
    return "\n".join(lines)

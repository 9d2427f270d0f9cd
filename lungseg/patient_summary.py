"""What the measures of patients say together: means, medians, intervals, lesions, the worst by name, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .case_score import CaseScore
from .errors import counted, printable
from .lesions import detection_by_size
from .statistics import CONFIDENCE, bootstrap_interval

WORST = 5  # patients named in the summary
# Measures with a mean over patients; of a slice set the first alone.
MEASURES = ("dice", "nsd_2mm", "hd95_mm", "volume_error_ml", "volume_error_percent")


def over_patients(scores: Sequence[CaseScore], *, complete: bool) -> dict[str, Any]:
    """Mean, median and bootstrap interval over patients, who was missed, the worst by name, and all lesions together.

    ``measures`` holds for each measure ``defined`` (patients that have the number), ``mean``, ``interval`` (of the
    mean) and ``median``.  A distance that is not defined, because just one of two masks is empty, is no reason to leave
    a patient out: it counts as infinite in the median, and there is no mean then, only ``mean_of_defined``.

    Args:
        scores: one a patient.
        complete: whether these are all the patients there are; otherwise no mean is given, because leaving out the ones
            that failed would flatter it.
    """
    slice_sets = any(score.slice_set for score in scores)
    names = MEASURES[:1] if slice_sets else MEASURES
    measures = {name: _over(scores, name, complete=complete) for name in names}
    dice = measures["dice"]
    ranked = worst_first(scores)
    return {
        "patients": len(scores),
        "complete": complete,
        "slice_sets": slice_sets,
        "dice_mean": dice["mean"],
        "dice_median": dice["median"],
        "dice_interval": dice["interval"],
        "dice_interval_confidence": CONFIDENCE,
        "missed": sum(score.missed for score in scores),
        "worst": [score.case for score in ranked[:WORST]],
        "measures": measures,
        "slices": _slices(scores),
        **({} if slice_sets else {"lesions": detection_by_size([score.details for score in scores])}),
    }


def worst_first(scores: Sequence[CaseScore]) -> list[CaseScore]:
    """By Dice, the lowest first; equal ones by how much they miss or invent, then by name."""

    def wrong(score: CaseScore) -> int:
        return max(score.truth_voxels, score.predicted_voxels)

    return sorted(scores, key=lambda score: (score.dice, -wrong(score), score.case))


def _over(scores: Sequence[CaseScore], name: str, *, complete: bool) -> dict[str, Any]:
    """One measure over patients."""
    given = [getattr(score, name) for score in scores]
    defined = np.array([value for value in given if value is not None], np.float64)
    failed = len(given) - defined.size if name == "hd95_mm" else 0
    whole = complete and defined.size > 0
    alone = whole and not failed
    middle = float(np.median(np.append(defined, [np.inf] * failed))) if whole else np.inf
    interval = bootstrap_interval(defined) if alone else None
    return {
        "defined": int(defined.size),
        "mean": _rounded(defined.mean()) if alone else None,
        "interval": None if interval is None else [_rounded(end) for end in interval],
        "median": _rounded(middle) if np.isfinite(middle) else None,
        **({"mean_of_defined": _rounded(defined.mean())} if whole and failed else {}),
    }


def _slices(scores: Sequence[CaseScore]) -> dict[str, Any]:
    """Axial slices of all patients together."""
    shown = sum(score.tumour_slices for score in scores)
    found = sum(score.tumour_slices_found for score in scores)
    return {
        "with_tumour": shown,
        "found": found,
        "sensitivity": _rounded(found / shown) if shown else None,
        "false": sum(score.false_slices for score in scores),
    }


def _rounded(value: float) -> float:
    return round(float(value), 6)


def table(scores: Sequence[CaseScore], summary: dict[str, Any]) -> str:
    """A line a patient, worst first, and the numbers over patients."""
    width = min(max([len(printable(score.case)) for score in scores] + [7]), 40)
    whole = not summary["slice_sets"]
    head = f"{'patient':<{width}}   Dice"
    if whole:
        head += "  NSD 2mm  HD95 mm  true ml  found ml  lesions  false"
    lines = [head + "  slices found  false"]
    lines += [_row(score, width, whole) for score in worst_first(scores)]
    if summary["dice_mean"] is None:
        lines.append(f"no mean: only {counted(len(scores), 'patient')} could be scored, not all")
        return "\n".join(lines)
    count, dice = counted(summary["patients"], "patient"), _mean(summary["measures"]["dice"])
    lines.append(f"mean Dice over {count} {dice}, {summary['missed']} missed")
    if whole:
        measures, lesions = summary["measures"], summary["lesions"]["all"]
        lines.append(f"NSD 2 mm {_mean(measures['nsd_2mm'])}")
        lines.append(f"HD95 mm {_mean(measures['hd95_mm'], 1)}")
        lines.append(f"volume error ml {_mean(measures['volume_error_ml'], 2)}")
        lines.append(
            f"lesions: {lesions['found']} of {lesions['true']} found, sensitivity {_short(lesions['sensitivity'])}, "
            f"precision {_short(lesions['precision'])}, F1 {_short(lesions['f1'])}, "
            f"{_short(lesions['false_positives_per_scan'], 2)} false positives a scan"
        )
    else:
        lines.append("slice sets: the stacks have gaps, so distances, volumes and lesions are left out")
    return "\n".join(lines)


def _row(score: CaseScore, width: int, whole: bool) -> str:
    row = f"{printable(score.case):<{width}}  {score.dice:.3f}"
    if whole:
        row += f"  {_short(score.nsd_2mm):>7}  {_short(score.hd95_mm, 1):>7}  {_short(score.truth_ml, 2):>7}"
        row += f"  {_short(score.predicted_ml, 2):>8}"
        row += f"  {f'{score.lesions_found}/{score.lesions}':>7}  {score.false_positives!s:>5}"
    row += f"  {f'{score.tumour_slices_found}/{score.tumour_slices}':>12}  {score.false_slices:>5}"
    if score.missed:
        row += "  missed"
    if score.truth_skipped_ml:
        row += f"  {score.truth_skipped_ml:.2f} ml in skipped slices"
    return row


def _mean(measure: dict[str, Any], places: int = 3) -> str:
    """Mean, interval and median in words."""
    if measure["mean"] is None:
        left = (
            f", mean of the {_patients(measure['defined'])} one {measure['mean_of_defined']:.{places}f}"
            if "mean_of_defined" in measure
            else ""
        )
        return f"median {_short(measure['median'], places)}{left}"
    interval = measure["interval"]
    between = ""
    if interval:
        between = f" ({CONFIDENCE:.0%} interval {interval[0]:.{places}f} to {interval[1]:.{places}f})"
    return f"{measure['mean']:.{places}f}{between}, median {_short(measure['median'], places)}"


def _patients(count: int) -> str:
    return "1 patient that has" if count == 1 else f"{count} patients that have"


def _short(value: float | None, places: int = 3) -> str:
    return "-" if value is None else f"{value:.{places}f}"

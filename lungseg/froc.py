"""The free-response curve: lesions found against false positives a scan, over thresholds.

At each threshold the mask is made anew and its components are matched (:mod:`lungseg.lesions`), so a point of the
curve is what a user gets who works at that threshold.  Where components grow together at a low one, fewer may be found
than at a higher one: the curve need not rise all the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from .components import bounding_box
from .lesions import match_lesions

# Probabilities are kept as whole 255ths (``inference.MaskVolume``).  Halfway between two of them a threshold parts the
# kept values just as it parts the exact ones, so eight bits lose nothing here.  0.5 is among them.
_LEVELS = (5, 12, 25, 51, 76, 102, 127, 153, 178, 204, 229, 242, 249, 252)
STEPS: Final = tuple(((level + 0.5) / 255.0, level + 1) for level in _LEVELS)


def free_response(
    truth: np.ndarray,
    levels: np.ndarray,
    spacing_mm: tuple[float, float, float],
    steps: Iterable[tuple[float, int]] = STEPS,
) -> list[dict[str, Any]]:
    """One scan's part of the curve.

    Args:
        truth: ``[x, y, z]``, tumour where it is not 0; z is axial.
        levels: whole numbers that rise with the probability, the same shape; uint8 255ths for the default ``steps``.
        spacing_mm: voxel size along these axes.
        steps: rising thresholds, each with the lowest level that lies above it.

    Returns:
        Of each threshold ``threshold``, and how many ``true`` lesions there are, how many of them are ``found``, and
        how many are ``false``.

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != levels.shape:
        raise ValueError(f"truth has shape {truth.shape}, the probabilities {levels.shape}")
    steps = list(steps)
    counts = []
    box = bounding_box((truth != 0) | (levels >= steps[0][1]))
    inside = (slice(0, 0),) * 3 if box is None else box
    truth, levels = truth[inside], levels[inside]
    for threshold, lowest in steps:
        lesions = match_lesions(truth, levels >= lowest, spacing_mm)
        outcomes = [(lesion.kind, lesion.outcome) for lesion in lesions]
        counts.append(
            {
                "threshold": round(threshold, 6),
                "true": sum(kind == "true" for kind, _ in outcomes),
                "found": outcomes.count(("true", "matched")),
                "false": outcomes.count(("predicted", "false")),
            }
        )
    return counts


def froc_curve(scans: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The curve of some scans together.

    Args:
        scans: :func:`free_response` of each, at the same thresholds.

    Returns:
        Of each threshold ``threshold``, ``sensitivity`` (None where no scan has a lesion) and
        ``false_positives_per_scan``; empty without a scan.
    """
    points = []
    for at in zip(*scans, strict=True):
        true = sum(scan["true"] for scan in at)
        points.append(
            {
                "threshold": at[0]["threshold"],
                "sensitivity": round(sum(scan["found"] for scan in at) / true, 6) if true else None,
                "false_positives_per_scan": round(sum(scan["false"] for scan in at) / len(at), 6),
            }
        )
    return points

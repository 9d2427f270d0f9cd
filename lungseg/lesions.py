"""Lesion by lesion: which true tumours were found, which found ones are false, by size, and over thresholds.

A lesion is a connected component (26 neighbours, as in :mod:`lungseg.components`).  A true and a predicted one match
where their intersection is at least a tenth of their union, one to one, as many pairs as can be and then the largest
overlap: the rule of the PI-CAI study (Saha et al., Lancet Oncology 2024, https://doi.org/10.1016/S1470-2045(24)00220-1;
its code is DIAGNijmegen/picai_eval).  Mere contact would not do: a mask of the whole lung touches every lesion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import cc3d
import numpy as np
from scipy.optimize import linear_sum_assignment

from .components import bounding_box, label_components

LEAST_OVERLAP: Final = 0.1  # intersection over union
Kind = Literal["true", "predicted"]
Outcome = Literal["matched", "missed", "false", "extra"]
RULE = (
    "Lesions are connected components (26 neighbours). A true and a predicted one match where intersection over union "
    "is at least 0.1, one to one; a further predicted one with that overlap counts as neither found nor false."
)
# Classes by a lesion's own volume: from (inclusive) and to (exclusive), millilitres.
SIZES_ML: Final[dict[str, tuple[float, float]]] = {
    "under 1 ml": (0.0, 1.0),
    "1 to 5 ml": (1.0, 5.0),
    "5 to 20 ml": (5.0, 20.0),
    "over 20 ml": (20.0, float("inf")),
}


@dataclass(frozen=True)
class Lesion:
    """One connected component of the truth or of the prediction.

    Args:
        kind: ``true`` or ``predicted``.
        volume_ml: its volume, millilitres.
        slices: first and last axial slice, indices along axis 2.
        overlap: the largest intersection over union with a component of the other mask, 0 to 1.
        outcome: ``matched``; ``missed`` (a true one without a match), ``false`` (a predicted one that overlaps no true
            one enough), or ``extra`` (a predicted one that does, where another one is the match).
    """

    kind: Kind
    volume_ml: float
    slices: tuple[int, int]
    overlap: float
    outcome: Outcome

    @property
    def size(self) -> str:
        """Its class, a key of ``SIZES_ML``."""
        return next(name for name, (low, high) in SIZES_ML.items() if low <= self.volume_ml < high)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; numbers rounded to 6 places."""
        return {**asdict(self), "slices": list(self.slices), "volume_ml": round(self.volume_ml, 6),
                "overlap": round(self.overlap, 6), "size": self.size}  # fmt: skip


def match_lesions(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[Lesion, ...]:
    """The components of both masks, the true ones first, each kind in the order in which axis 2, 1, 0 meets them.

    Args:
        truth: ``[x, y, z]``, tumour where it is not 0; z is axial.
        prediction: the same shape.
        spacing_mm: voxel size along these axes.

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, the prediction {prediction.shape}")
    true, found = _Parts.of(truth), _Parts.of(prediction)
    first, second, overlap = _overlaps(true, found)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    enough = overlap >= LEAST_OVERLAP
    matched = _pairs(first[enough], second[enough], overlap[enough])
    return (
        *_lesions("true", true, first, overlap, set(matched), voxel_ml),
        *_lesions("predicted", found, second, overlap, set(matched.values()), voxel_ml),
    )


def detection(lesions: Iterable[Lesion], scans: int) -> dict[str, Any]:
    """Sensitivity, precision and F1 over the lesions of some scans, and false positives a scan.

    Args:
        lesions: of all the scans together.
        scans: how many there are.

    Returns:
        ``true``, ``found``, ``predicted``, ``matched``, ``extra`` and ``false_positives`` are counts; ``sensitivity``
        is found / true, ``precision`` matched / (matched + false positives), ``f1`` their harmonic mean, each None
        where there is nothing to divide by; ``false_positives_per_scan``.
    """
    lesions = list(lesions)
    count = {name: sum(lesion.outcome == name for lesion in lesions) for name in ("missed", "false", "extra")}
    found = sum(lesion.outcome == "matched" and lesion.kind == "true" for lesion in lesions)
    matched = sum(lesion.outcome == "matched" and lesion.kind == "predicted" for lesion in lesions)
    return {
        "true": found + count["missed"],
        "found": found,
        "predicted": matched + count["false"] + count["extra"],
        "matched": matched,
        "extra": count["extra"],
        "false_positives": count["false"],
        "sensitivity": _share(found, found + count["missed"]),
        "precision": _share(matched, matched + count["false"]),
        # Of a size class found and matched may differ: a true lesion's match can be of another class.
        "f1": _f1(_share(found, found + count["missed"]), _share(matched, matched + count["false"])),
        "false_positives_per_scan": _share(count["false"], scans),
    }


def detection_by_size(scans: Sequence[Sequence[Lesion]]) -> dict[str, Any]:
    """``rule``, ``all`` lesions, and ``by_size``: :func:`detection` of each class (of the lesion's own size).

    Args:
        scans: the lesions of each scan.
    """
    lesions = [lesion for scan in scans for lesion in scan]
    classes = {name: [lesion for lesion in lesions if lesion.size == name] for name in SIZES_ML}
    return {
        "rule": RULE,
        "all": detection(lesions, len(scans)),
        "by_size": {name: detection(inside, len(scans)) for name, inside in classes.items()},
    }


@dataclass(frozen=True)
class _Parts:
    """The components of a mask.

    Args:
        labels: of the mask's bounding box, 0 where it is empty.
        box: where that lies in the mask.
        voxels: of each label.
        boxes: of each label within ``labels``.
        count: how many components there are, labelled from 1.
    """

    labels: np.ndarray
    box: tuple[slice, slice, slice]
    voxels: np.ndarray
    boxes: Any
    count: int

    @classmethod
    def of(cls, mask: np.ndarray) -> _Parts:
        box = bounding_box(mask)
        if box is None:
            empty = slice(0, 0)
            return cls(np.zeros((0, 0, 0), np.uint32), (empty, empty, empty), np.zeros(1), [], 0)
        labels, count = label_components(mask[box] != 0)
        statistics = cc3d.statistics(labels, no_slice_conversion=False)
        return cls(labels, box, statistics["voxel_counts"], statistics["bounding_boxes"], count)

    def slices(self, label: int) -> tuple[int, int]:
        start, part = self.box[2].start, self.boxes[label][2]
        return int(start + part.start), int(start + part.stop) - 1

    def inside(self, box: tuple[slice, ...]) -> np.ndarray:
        """The labels of a box of the mask that lies inside ``self.box``."""
        return self.labels[
            tuple(slice(part.start - own.start, part.stop - own.start) for part, own in zip(box, self.box, strict=True))
        ]


def _overlaps(true: _Parts, found: _Parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of components that share voxels: label of the one, label of the other, intersection over union."""
    common = tuple(
        slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))
        for a, b in zip(true.box, found.box, strict=True)
    )
    if true.count == 0 or found.count == 0 or any(part.start == part.stop for part in common):
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    one, other = true.inside(common), found.inside(common)
    both = (one > 0) & (other > 0)
    keys, shared = np.unique(one[both].astype(np.int64) * (found.count + 1) + other[both], return_counts=True)
    first, second = np.divmod(keys, found.count + 1)
    union = true.voxels[first].astype(np.int64) + found.voxels[second].astype(np.int64) - shared
    return first, second, shared / union


def _lesions(
    kind: Kind, parts: _Parts, labels: np.ndarray, overlap: np.ndarray, matched: set[int], voxel_ml: float
) -> Iterator[Lesion]:
    """The components of one mask; ``labels`` and ``overlap`` as :func:`_overlaps` gives them."""
    best = np.zeros(parts.count + 1)
    np.maximum.at(best, labels, overlap)
    for label in range(1, parts.count + 1):
        outcome: Outcome = "missed" if kind == "true" else "extra" if best[label] >= LEAST_OVERLAP else "false"
        if label in matched:
            outcome = "matched"
        yield Lesion(kind, float(parts.voxels[label]) * voxel_ml, parts.slices(label), float(best[label]), outcome)


def _pairs(first: np.ndarray, second: np.ndarray, overlap: np.ndarray) -> dict[int, int]:
    """Which true component has which predicted one: as many pairs as can be, then the largest sum of overlaps."""
    if not first.size:
        return {}
    rows, row = np.unique(first, return_inverse=True)
    columns, column = np.unique(second, return_inverse=True)
    worth = np.zeros((rows.size, columns.size))
    worth[row, column] = overlap + min(worth.shape)  # a pair more is worth more than any sum of overlaps
    chosen = zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    return {int(rows[i]): int(columns[j]) for i, j in chosen if worth[i, j] > 0}


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None


def _f1(sensitivity: float | None, precision: float | None) -> float | None:
    if sensitivity is None or precision is None:
        return None
    both = sensitivity + precision
    return round(2 * sensitivity * precision / both, 6) if both else 0.0

"""The free-response curve, by hand, against masks made one by one, and whether eight bits are enough for it."""

from __future__ import annotations

import numpy as np
import pytest

from lungseg.froc import STEPS, free_response, froc_curve
from lungseg.geometry import SliceGrid
from lungseg.inference import MaskVolume
from lungseg.lesions import match_lesions

from .masks import boxes

MM = (10.0, 10.0, 10.0)
SHAPE = (20, 5, 5)


def row(start: int, stop: int) -> np.ndarray:
    return boxes(SHAPE, ((start, stop), (0, 1), (2, 3)))


def at(counts: list[dict], threshold: float) -> tuple[int, int, int]:
    (point,) = (point for point in counts if point["threshold"] == pytest.approx(threshold, abs=1e-5))
    return point["true"], point["found"], point["false"]


def test_by_hand() -> None:
    truth = row(0, 3) | row(6, 9)
    levels = (row(0, 3) * 0.9 + row(6, 9) * 0.3 + row(12, 14) * 0.6 + row(16, 17) * 0.1) * 255
    counts = free_response(truth, levels.astype(np.uint8), MM)
    assert [point["threshold"] for point in counts] == [round(threshold, 6) for threshold, _ in STEPS]
    assert at(counts, 5.5 / 255) == (2, 2, 2)
    assert at(counts, 51.5 / 255) == (2, 2, 1)
    assert at(counts, 0.5) == (2, 1, 1)
    assert at(counts, 178.5 / 255) == (2, 1, 0)
    assert at(counts, 252.5 / 255) == (2, 0, 0)


def test_a_scan_without_tumour_counts_for_false_positives_alone() -> None:
    nothing = row(0, 0)
    counts = [free_response(nothing, (row(0, 2) * 200).astype(np.uint8), MM),
              free_response(row(0, 2), nothing.astype(np.uint8), MM)]  # fmt: skip
    curve = froc_curve(counts)
    (half,) = (point for point in curve if point["threshold"] == 0.5)
    assert half["sensitivity"] == 0.0 and half["false_positives_per_scan"] == 0.5
    assert froc_curve(counts[:1])[0]["sensitivity"] is None and froc_curve([]) == []


def test_every_point_is_what_the_mask_of_that_threshold_gives() -> None:
    """Eight bits lose nothing: levels are compared with masks made from the exact probabilities."""
    rng = np.random.default_rng(0)
    shape, spacing_mm = (16, 16, 5), (2.0, 2.0, 3.0)
    grid = SliceGrid.of(shape, spacing_mm, 16)
    slices = (rng.random((5, 16, 16)) ** 3).astype(np.float32)
    truth = rng.random(shape) > 0.98
    kept = MaskVolume(shape, grid, 0.5)
    for z, plane in enumerate(slices):
        kept.put(z, plane)
    counts = free_response(truth, kept.probability, spacing_mm)
    for (threshold, lowest), point in zip(STEPS, counts, strict=True):
        exact = MaskVolume(shape, grid, threshold)
        for z, plane in enumerate(slices):
            exact.put(z, plane)
        np.testing.assert_array_equal(kept.probability >= lowest, exact.mask > 0)
        outcomes = [lesion.outcome for lesion in match_lesions(truth, exact.mask, spacing_mm)]
        assert point["false"] == outcomes.count("false")
        assert point["true"] - point["found"] == outcomes.count("missed")
    assert len({point["false"] for point in counts}) > 3


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        free_response(np.zeros((2, 2, 2)), np.zeros((2, 2, 3), np.uint8), MM)

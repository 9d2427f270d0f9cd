"""Threshold, smallest kept component and temperature: what each changes, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lungseg.errors import UsageError
from lungseg.postprocess import PLAIN, PostProcessing, calibrated, drop_small, smallest_voxels

VOXEL_ML = 0.7 * 0.7 * 2.5 / 1000


def speckled(seed: int) -> np.ndarray:
    """uint8 [L, A, S] with components of many sizes."""
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.normal(size=(23, 31, 17)), 1.0)
    return np.asfortranarray((smooth > np.quantile(smooth, 0.85)).astype(np.uint8))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("voxels", [2, 5, 30])
def test_small_components_go_as_scipy_counts_them(seed: int, voxels: int) -> None:
    mask = speckled(seed)
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(mask, labels, range(count + 1))
    expected = (mask > 0) & (sizes[labels] >= voxels)
    assert 0 < expected.sum() < mask.sum()
    drop_small(mask, voxels * VOXEL_ML, VOXEL_ML)
    np.testing.assert_array_equal(mask > 0, expected)
    assert set(np.unique(mask)) == {0, 1}


def test_a_component_of_just_the_smallest_volume_stays() -> None:
    mask = np.zeros((5, 5, 5), np.uint8)
    mask[1:4, 2, 2] = 1
    for volume, stays in ((3 * VOXEL_ML, True), (3.001 * VOXEL_ML, False)):
        left = mask.copy()
        drop_small(left, volume, VOXEL_ML)
        assert left.any() == stays
    assert smallest_voxels(0.3, 0.1) == 3  # 0.3 / 0.1 is 2.9999999999999996


def test_nothing_is_dropped_by_the_defaults_nor_from_an_empty_mask() -> None:
    mask, before = speckled(1), speckled(1)
    drop_small(mask, PLAIN.smallest_ml, VOXEL_ML)
    np.testing.assert_array_equal(mask, before)
    empty = np.zeros((4, 4, 4), np.uint8)
    drop_small(empty, 1.0, VOXEL_ML)
    assert not empty.any()


def test_the_temperature_divides_the_logit() -> None:
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(calibrated(levels, 1.0), levels)
    warm, p = calibrated(levels, 2.0), np.arange(1, 255) / 255
    expected = np.sqrt(p) / (np.sqrt(p) + np.sqrt(1 - p))  # sigmoid(logit(p) / 2), by another way
    np.testing.assert_allclose(warm[1:255] / 255, expected, atol=0.5 / 255 + 1e-9)
    assert warm[0] == 0 and warm[255] == 255
    assert (np.diff(warm.astype(int)) >= 0).all() and abs(int(warm[127]) - 127) <= 1
    assert calibrated(levels, 0.5)[51] < 51 < warm[51]


@pytest.mark.parametrize(
    "setting",
    [{"threshold": 1.0}, {"threshold": -0.1}, {"threshold": float("nan")}, {"smallest_ml": -1.0},
     {"smallest_ml": float("inf")}, {"temperature": 0.0}, {"temperature": float("nan")}],
)  # fmt: skip
def test_settings_that_can_not_be_meant(setting: dict) -> None:
    with pytest.raises(UsageError):
        PostProcessing(**setting)

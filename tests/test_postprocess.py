"""Threshold, kept components and temperature: what each changes, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lungseg.errors import UsageError
from lungseg.postprocess import PLAIN, PostProcessing, calibrated, drop_components, smallest_voxels

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
    drop_components(mask, mask.copy(), PostProcessing(smallest_ml=voxels * VOXEL_ML), VOXEL_ML)
    np.testing.assert_array_equal(mask > 0, expected)
    assert set(np.unique(mask)) == {0, 1}


def test_a_component_of_just_the_smallest_volume_stays() -> None:
    mask = np.zeros((5, 5, 5), np.uint8)
    mask[1:4, 2, 2] = 1
    for volume, stays in ((3 * VOXEL_ML, True), (3.001 * VOXEL_ML, False)):
        left = mask.copy()
        drop_components(left, left.copy(), PostProcessing(smallest_ml=volume), VOXEL_ML)
        assert left.any() == stays
    assert smallest_voxels(0.3, 0.1) == 3  # 0.3 / 0.1 is 2.9999999999999996


def test_nothing_is_dropped_by_the_defaults_nor_from_an_empty_mask() -> None:
    mask, before = speckled(1), speckled(1)
    drop_components(mask, before, PLAIN, VOXEL_ML)
    np.testing.assert_array_equal(mask, before)
    empty = np.zeros((4, 4, 4), np.uint8)
    drop_components(empty, empty, PostProcessing(smallest_ml=1.0, smallest_share=1.0), VOXEL_ML)
    assert not empty.any()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_components_that_weigh_little_go_as_scipy_weighs_them(seed: int, share: float) -> None:
    mask = speckled(seed)
    probability = np.random.default_rng(seed).integers(1, 256, mask.shape).astype(np.uint8)
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    weights = ndimage.sum_labels(probability.astype(float), labels, range(count + 1)) * (np.arange(count + 1) > 0)
    expected = (mask > 0) & (weights[labels] >= share * weights.max())
    assert 0 < expected.sum() < mask.sum()
    drop_components(mask, probability, PostProcessing(smallest_share=share), VOXEL_ML)
    np.testing.assert_array_equal(mask > 0, expected)


def test_a_small_tumour_that_is_certain_outweighs_a_large_one_that_is_not() -> None:
    mask, probability = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)
    mask[:2, :2, 0], probability[:2, :2, 0] = 1, 250  # 1000
    mask[4:, 4:, 2], probability[4:, 4:, 2] = 1, 10  # 250
    for share, left in ((0.25, 29), (0.26, 4)):
        one = mask.copy()
        drop_components(one, probability, PostProcessing(smallest_share=share), VOXEL_ML)
        assert one.sum() == left


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
     {"smallest_ml": float("inf")}, {"smallest_share": -0.1}, {"smallest_share": 1.1},
     {"smallest_share": float("nan")}, {"temperature": 0.0}, {"temperature": float("nan")}],
)  # fmt: skip
def test_settings_that_can_not_be_meant(setting: dict) -> None:
    with pytest.raises(UsageError):
        PostProcessing(**setting)

"""Components against boxes and spheres worked out by hand, scipy's labels, and a brute-force diameter."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import pdist

from lungseg.components import axial_diameter_mm, bounding_box, label_components, tumours

SPACING_MM = (0.7, 0.9, 2.5)


def box(shape, *ends):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(*end) for end in ends)] = 1
    return mask


@pytest.mark.parametrize("order", ["C", "F"])
def test_as_many_components_as_a_mask_can_have_are_numbered_whatever_its_shape(order):
    # Every second voxel along each axis: cc3d alone raises for many of the thin ones, a line of 3 among them.
    for shape in [*product(range(1, 7), repeat=3), (1, 40, 40), (4, 31, 31), (5, 31, 31), (31, 5, 7), (1, 1, 300)]:
        mask = np.zeros(shape, bool, order=order)
        mask[::2, ::2, ::2] = True
        labels, count = label_components(mask)
        assert labels.shape == shape and count == mask.sum(), shape
        assert sorted(labels[mask]) == list(range(1, count + 1)) and not labels[~mask].any()


def test_components_of_noise_are_those_of_scipy():
    generator = np.random.default_rng(0)
    for shape in [(1, 1, 9), (1, 9, 8), (3, 3, 3), (4, 9, 9), (5, 9, 9), (12, 11, 10)]:
        for share in (0.05, 0.2, 0.5):
            mask = generator.random(shape) < share
            labels, count = label_components(mask)
            expected, number = ndimage.label(mask, np.ones((3, 3, 3)))
            assert count == number
            assert len(set(zip(labels[mask], expected[mask], strict=True))) == count


def test_box_by_hand():
    (tumour,) = tumours(box((20, 24, 9), (3, 13), (5, 9), (2, 6)), SPACING_MM)
    assert tumour.voxels == 10 * 4 * 4
    assert tumour.volume_ml == pytest.approx(160 * 0.7 * 0.9 * 2.5 / 1000)
    assert tumour.diameter_mm == pytest.approx(np.hypot(10 * 0.7, 4 * 0.9))
    assert tumour.slices == (2, 5)
    assert tumour.centre_mm == pytest.approx((7.5 * 0.7, 6.5 * 0.9, 3.5 * 2.5))
    assert tumour.mean_probability is None


def test_one_voxel():
    (tumour,) = tumours(box((4, 4, 4), (3, 4), (0, 1), (3, 4)), SPACING_MM)
    assert (tumour.voxels, tumour.slices) == (1, (3, 3))
    assert tumour.diameter_mm == pytest.approx(np.hypot(0.7, 0.9))


def test_sphere_has_the_volume_and_diameter_of_a_sphere():
    radius_mm, spacing_mm = 12.0, (0.6, 0.8, 1.5)
    axes = [(np.arange(size) - size // 2) * mm for size, mm in zip((50, 40, 24), spacing_mm, strict=True)]
    distance_mm = np.sqrt(sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij")))
    (tumour,) = tumours(distance_mm <= radius_mm, spacing_mm)
    assert tumour.volume_ml == pytest.approx(4 / 3 * np.pi * radius_mm**3 / 1000, rel=0.02)
    assert 2 * radius_mm <= tumour.diameter_mm <= 2 * radius_mm + np.hypot(0.6, 0.8)
    assert tumour.centre_mm == pytest.approx((25 * 0.6, 20 * 0.8, 12 * 1.5))


def test_voxels_that_share_a_corner_are_one_tumour():
    mask = np.zeros((5, 5, 5), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = True
    assert [tumour.voxels for tumour in tumours(mask, SPACING_MM)] == [2]
    mask[4, 4, 4] = True
    assert [tumour.voxels for tumour in tumours(mask, SPACING_MM)] == [2, 1]


def test_nothing():
    assert tumours(np.zeros((5, 6, 7), bool), SPACING_MM) == []
    assert axial_diameter_mm(np.zeros((3, 3, 2), bool), (1.0, 1.0)) == 0.0


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("seed", range(5))
def test_random_masks_against_scipy(seed, order):
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.normal(size=(22, 19, 13)), 1.5)
    mask = np.asarray(field > np.quantile(field, 0.85), order=order)
    probability = random.random(mask.shape, np.float32)
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    expected = sorted(
        (
            int((labels == i).sum()),
            round(brute_diameter_mm(labels == i), 6),
            round(float(probability[labels == i].mean()), 5),
            tuple(np.flatnonzero((labels == i).any((0, 1)))[[0, -1]]),
            tuple(np.round(np.multiply(ndimage.center_of_mass(labels == i), SPACING_MM), 4)),
        )
        for i in range(1, count + 1)
    )
    found = tumours(mask, SPACING_MM, probability)
    assert [tumour.voxels for tumour in found] == sorted((tumour.voxels for tumour in found), reverse=True)
    assert expected == sorted(
        (t.voxels, round(t.diameter_mm, 6), round(t.mean_probability, 5), t.slices, tuple(np.round(t.centre_mm, 4)))
        for t in found
    )


def brute_diameter_mm(mask):
    """All four corners of every pixel, every pair of them, slice by slice."""
    largest = 0.0
    for z in np.flatnonzero(mask.any((0, 1))):
        pixels = np.argwhere(mask[:, :, z])
        corners = np.concatenate([pixels + shift for shift in product((0, 1), repeat=2)])
        largest = max(largest, pdist(corners * SPACING_MM[:2]).max())
    return largest


def test_uint8_probability_counts_in_255ths():
    mask = box((6, 6, 3), (1, 3), (1, 2), (1, 2))
    confidence = mask * np.uint8(204)
    assert tumours(mask, SPACING_MM, confidence)[0].mean_probability == pytest.approx(0.8)


def test_bounding_box_touches_every_side():
    assert bounding_box(box((5, 6, 7), (0, 5), (2, 6), (3, 7))) == (slice(0, 5), slice(2, 6), slice(3, 7))
    assert bounding_box(np.zeros((5, 6, 7), np.uint8)) is None


def test_probability_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="shape"):
        tumours(np.ones((2, 2, 2), bool), SPACING_MM, np.ones((2, 2, 3), np.float32))

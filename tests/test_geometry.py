"""Orientation, padding and resizing: round trips, and markers whose place is worked out by hand."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.geometry import SliceGrid, from_las, orientation_of, slice_of, slice_to_las, to_las

from .volumes import ALL_ORIENTATIONS, affine_of


def test_there_are_48_orientations() -> None:
    assert len(set(ALL_ORIENTATIONS)) == 48


@pytest.mark.parametrize("codes", ALL_ORIENTATIONS)
def test_round_trip_and_affine(codes: str) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    affine = affine_of(codes, (0.7, 1.1, 2.5))
    las, las_affine, orientation = to_las(voxels, affine)
    assert orientation.codes == codes
    assert nib.aff2axcodes(las_affine) == ("L", "A", "S")
    assert np.shares_memory(las, voxels)
    np.testing.assert_array_equal(from_las(las, orientation), voxels)
    # The same point of the patient holds the same value, whichever grid it is looked up in.
    for index in ((0, 0, 0), (1, 2, 3), (3, 4, 5)):
        point = affine @ [*index, 1]
        in_las = np.rint(np.linalg.inv(las_affine) @ point)[:3].astype(int)
        assert las[tuple(in_las)] == voxels[index]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ALL_ORIENTATIONS),
    st.tuples(*[st.integers(1, 7)] * 3),
    st.tuples(*[st.floats(0.3, 6.0)] * 3),
)
def test_round_trip_of_any_shape_and_spacing(codes: str, shape: tuple, spacing_mm: tuple) -> None:
    voxels = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    las, las_affine, orientation = to_las(voxels, affine_of(codes, spacing_mm))
    np.testing.assert_array_equal(from_las(las, orientation), voxels)
    assert sorted(np.linalg.norm(las_affine[:3, :3], axis=0)) == pytest.approx(sorted(spacing_mm))


def test_a_slice_shows_the_patient_as_a_radiologist_sees_it() -> None:
    las = np.zeros((5, 4, 3), np.uint8)
    las[0, 3, 1] = 1  # rightmost, foremost
    picture = slice_of(las, 1)
    assert picture.shape == (4, 5)  # rows front to back, columns right to left
    assert picture[0, 0] == 1 and picture.sum() == 1
    np.testing.assert_array_equal(slice_to_las(picture), las[:, :, 1])


def test_oblique_angle() -> None:
    for degrees in (0.0, 5.0, 20.0, 40.0):
        angle = np.radians(degrees)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        assert orientation_of(turn @ affine_of("LPS")).oblique_deg == pytest.approx(degrees, abs=1e-4)


def test_square_slices_of_the_native_size_are_unchanged() -> None:
    grid = SliceGrid.of((16, 16, 3), (1, 1, 3), 16)
    picture = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    assert grid.pad == ((0, 0), (0, 0))
    np.testing.assert_array_equal(grid.shrink_image(picture, -1000), picture)
    np.testing.assert_array_equal(grid.grow(picture), picture)


def test_area_averaging() -> None:
    grid = SliceGrid.of((8, 8, 1), (1, 1, 1), 4)
    picture = np.arange(64, dtype=np.float32).reshape(8, 8)
    expected = picture.reshape(4, 2, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(grid.shrink_image(picture, 0), expected)


def test_scans_that_are_not_square_are_padded_with_air_not_squashed() -> None:
    grid = SliceGrid.of((10, 20, 1), (1, 1, 1), 20)  # 10 columns, 20 rows
    assert grid.pad == ((0, 0), (5, 5))
    picture = np.zeros((20, 10), np.float32)
    slice_ = grid.shrink_image(picture, -1000)
    assert (slice_[:, :5] == -1000).all() and (slice_[:, 15:] == -1000).all() and (slice_[:, 5:15] == 0).all()
    np.testing.assert_array_equal(grid.grow(slice_), picture)


def test_pixels_that_are_not_square_keep_the_patient_in_shape() -> None:
    # 20 columns of 1 mm and 10 rows of 2 mm are a square of 20 mm: nothing to pad.
    assert SliceGrid.of((20, 10, 1), (1, 2, 1), 20).pad == ((0, 0), (0, 0))
    # 20 columns of 1 mm and 20 rows of 2 mm are 20 x 40 mm: 20 columns more.
    assert SliceGrid.of((20, 20, 1), (1, 2, 1), 20).pad == ((0, 0), (10, 10))


@settings(max_examples=40, deadline=None)
@given(st.integers(40, 90), st.integers(40, 90), st.floats(0.5, 2), st.floats(0.5, 2))
def test_a_disc_comes_back_to_its_place(columns: int, rows: int, column_mm: float, row_mm: float) -> None:
    grid = SliceGrid.of((columns, rows, 1), (column_mm, row_mm, 1), 64)
    y, x = np.mgrid[:rows, :columns]
    disc = ((x - columns * 0.4) * column_mm) ** 2 + ((y - rows * 0.6) * row_mm) ** 2 < 9.0**2 * column_mm * row_mm
    back = grid.grow(grid.shrink_image(disc.astype(np.float32), 0)) > 0.5
    assert back.shape == disc.shape
    overlap = 2 * (back & disc).sum() / (back.sum() + disc.sum())
    assert overlap > 0.9
    np.testing.assert_allclose(np.argwhere(back).mean(0), np.argwhere(disc).mean(0), atol=0.3)

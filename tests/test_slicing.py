"""One slice: its values against a plain reference, and how many slices are skipped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lungseg.config import AIR, PreprocessConfig
from lungseg.errors import DataError
from lungseg.geometry import SliceGrid
from lungseg.slicing import skipped_slices, slice_image, slice_room

from .volumes import chest_like

SPACING_MM = (0.7, 0.8, 2.5)


def reference_slice(las: np.ndarray, z: int, spacing_mm: tuple[float, ...], size: int) -> np.ndarray:
    """The definition in float64, a step a line: float64 [size, size]."""
    picture = np.flipud(las[:, :, z].T.astype(np.float64))
    picture = np.minimum(np.maximum(picture, -1000), 3071) / 3071
    columns, rows = las.shape[:2]
    side_mm = max(columns * spacing_mm[0], rows * spacing_mm[1])
    more_rows, more_columns = round(side_mm / spacing_mm[1]) - rows, round(side_mm / spacing_mm[0]) - columns
    margins = [(more_rows // 2, (more_rows + 1) // 2), (more_columns // 2, (more_columns + 1) // 2)]
    picture = np.pad(picture, margins, constant_values=-1000 / 3071)
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def hu_of(shape: tuple[int, int, int]) -> np.ndarray:
    """A chest with metal and padding beyond the clip, as real files have them."""
    las = chest_like(shape).astype(np.int32)
    las[3:6, 4:9, 1] = 20_349
    las[-4:, -4:, :] = -3024
    return las.astype(np.int16)


@pytest.mark.parametrize("shape", [(40, 36, 4), (36, 50, 4), (64, 64, 3)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_values_are_those_of_a_plain_reference(shape: tuple[int, int, int], dtype: type) -> None:
    las, config = hu_of(shape).astype(dtype), PreprocessConfig(size=32)
    grid = SliceGrid.of(shape, SPACING_MM, 32)
    for z in range(shape[2]):
        found = slice_image(las, z, grid, config)
        assert found.dtype == np.float16 and found.shape == (32, 32)
        # Rounding to float16 moves a value of up to 1 by at most 2^-12.
        np.testing.assert_allclose(found, reference_slice(las, z, SPACING_MM, 32), rtol=0, atol=2**-12 + 1e-6)


@pytest.mark.parametrize("limits", [(-1000.0, 3071.0), (-1000.5, 3071.0), (-40_000.0, 40_000.0)])
def test_whole_numbers_are_clipped_as_others_are(limits: tuple[float, float]) -> None:
    las, config = hu_of((40, 36, 4)), PreprocessConfig(size=32, hu_min=limits[0], hu_max=limits[1])
    grid = SliceGrid.of(las.shape, SPACING_MM, 32)
    for z in range(4):
        as_float = slice_image(las.astype(np.float32), z, grid, config)
        np.testing.assert_array_equal(slice_image(las, z, grid, config), as_float)


def test_averaging_is_of_clipped_values() -> None:
    las = np.full((8, 8, 1), -1000, np.int16)
    las[0, 7, 0] = 20_349  # counts as 3071, not more
    las[7, 0, 0] = -3024  # counts as -1000, not less
    picture = slice_image(las, 0, SliceGrid.of(las.shape, (1, 1, 1), 4), PreprocessConfig(size=4))
    assert picture[0, 0] == pytest.approx((3071 - 3 * 1000) / 4 / 3071, abs=1e-4)
    assert picture[3, 3] == pytest.approx(AIR, abs=2e-4)
    assert round(AIR, 4) == -0.3256


def test_the_scan_is_left_as_it_is() -> None:
    las = hu_of((16, 16, 3)).astype(np.float32)
    before = las.copy()
    slice_image(las, 1, SliceGrid.of(las.shape, (1, 1, 1), 16), PreprocessConfig(size=16))
    np.testing.assert_array_equal(las, before)


@pytest.mark.parametrize(
    ("skip", "spacing_mm", "count"),
    [
        ("30", 1.25, 30),
        ("0", 1.25, 0),
        ("0mm", 1.25, 0),
        ("25mm", 1.25, 20),
        ("25.1mm", 1.25, 21),  # a slice that begins within the length is dropped
        ("0.1mm", 5.0, 1),
        # What a header of float32 makes of 0.7 and 0.9 mm is a little less: still ten slices.
        ("7mm", float(np.float32(0.7)), 10),
        ("9mm", float(np.float32(0.9)), 10),
        ("6mm", float(np.float32(0.6)), 10),
    ],
)
def test_skipped_slices_by_number_and_length(skip: str, spacing_mm: float, count: int) -> None:
    las = np.zeros((2, 2, 40), np.int16)
    assert skipped_slices(las, (1.0, 1.0, spacing_mm), PreprocessConfig(skip_slices=skip)) == count


@pytest.mark.parametrize("skip", ["6", "400", "15mm", "1e9mm"])
def test_a_scan_of_which_nothing_would_be_left_is_bad(skip: str) -> None:
    las = np.zeros((2, 2, 6), np.int16)
    with pytest.raises(DataError) as caught:
        skipped_slices(las, (1.0, 1.0, 2.5), PreprocessConfig(skip_slices=skip))
    assert caught.value.problem.code == "no-slice-left" and caught.value.problem.found == "6"
    assert skipped_slices(las, (1.0, 1.0, 2.5), PreprocessConfig(skip_slices="5")) == 5


def test_auto_skips_up_to_the_first_slice_with_lung() -> None:
    spacing_mm, config = (10.0, 10.0, 8.0), PreprocessConfig(skip_slices="auto")
    las = np.full((32, 32, 16), 40, np.int16)
    las[..., 5:] = chest_like((32, 32, 11))
    assert skipped_slices(las, spacing_mm, config) == 5
    with pytest.raises(DataError) as caught:
        skipped_slices(las[..., :5], spacing_mm, config)
    assert caught.value.problem.code == "no-lung" and "--skip-slices" in caught.value.problem.mend


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_room_and_the_way_of_rounding_change_no_bit(dtype: type, flips: tuple[int, int], monkeypatch) -> None:
    las = np.asfortranarray(np.maximum(hu_of((40, 36, 5)), 0 if dtype == np.uint16 else -3024).astype(dtype))
    las = las[:: flips[0], :: flips[1]]
    grid, config = SliceGrid.of(las.shape, SPACING_MM, 24), PreprocessConfig(size=24)
    plain = [
        (grid.shrink_image(np.clip(las[:, ::-1, z].T.astype(np.float32), -1000, 3071), -1000) / np.float32(3071))
        .astype(np.float16)
        for z in range(5)
    ]  # fmt: skip
    room = slice_room(las)
    for z in range(5):
        np.testing.assert_array_equal(slice_image(las, z, grid, config, room), plain[z])
    monkeypatch.delattr(cv2, "convertFp16", raising=False)
    np.testing.assert_array_equal(slice_image(las, 4, grid, config), plain[4])

"""One slice: its values against a plain reference, how many slices are skipped, and what is removed from a folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lungseg.config import AIR, PreprocessConfig
from lungseg.errors import DataError, UsageError
from lungseg.files import TEMPORARY_PREFIX
from lungseg.geometry import SliceGrid
from lungseg.slicing import bounding_box, check_skip, remove_case, remove_stale, skipped_slices, slice_image

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
    ("given", "kept"),
    [("30", "30"), ("0", "0"), (" 007 ", "7"), ("12.5mm", "12.5mm"), ("12.50 MM", "12.5mm"), ("0mm", "0mm"),
     ("Auto", "auto")],
)  # fmt: skip
def test_ways_to_say_how_many_slices_to_skip(given: str, kept: str) -> None:
    assert check_skip(given) == kept
    assert check_skip(kept) == kept


@pytest.mark.parametrize(
    "given", ["", "-1", "1.5", "-2mm", "nanmm", "infmm", "mm", "3cm", "none", "12,5mm", "30 slices"]
)
def test_other_ways_are_refused(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_skip(given)
    assert caught.value.problem.code == "bad-skip" and "12.5mm or auto" in str(caught.value)


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


def test_bounding_box() -> None:
    mask = np.zeros((5, 6, 7), np.uint8)
    assert bounding_box(mask) is None
    mask[1, 2, 6] = mask[3, 0, 4] = 1
    assert bounding_box(mask) == ((1, 4), (0, 3), (4, 7))


def case_folder(folder: Path) -> Path:
    for name in (
        "case.json", "tumour.npy", "images/030.npy", "images/1000.npy", "masks/030.npy", "notes.txt",
        "images/mine.npy", "scans/image.nii.gz", f"images/{TEMPORARY_PREFIX}1.npy", f"{TEMPORARY_PREFIX}2.json",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_a_run_wrote_is_removed(tmp_path: Path) -> None:
    mine = {"notes.txt", "images/mine.npy", "scans/image.nii.gz"}
    folder = case_folder(tmp_path / "a [1]")
    remove_stale(folder, {"case.json", "images/1000.npy"})
    assert names(folder) == mine | {"case.json", "images/1000.npy"}
    assert not (folder / "masks").exists()  # an unlabelled case has none
    remove_case(folder)
    assert names(folder) == mine


def test_a_case_without_other_files_goes_as_a_whole(tmp_path: Path) -> None:
    folder = case_folder(tmp_path / "lung_001")
    for name in ("notes.txt", "images/mine.npy", "scans/image.nii.gz"):
        (folder / name).unlink()
    (folder / "scans").rmdir()
    remove_case(folder)
    assert not folder.exists()
    remove_case(folder)  # nothing there: nothing to do

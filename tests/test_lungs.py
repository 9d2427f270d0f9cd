"""The lung finder on boxes whose place and volume are known."""

from __future__ import annotations

import numpy as np
import pytest

from lungseg.lungs import first_lung_slice, lung_mask, lung_region

AIR, TISSUE, LUNG = -1000, 40, -850


def boxes(shape: tuple[int, int, int], lung_from: int = 3) -> np.ndarray:
    """HU [left, front, head]: a body in air, with two lungs from slice ``lung_from`` to the last but one."""
    las = np.full(shape, AIR, np.int16)
    x, y, _ = shape
    las[x // 8 : -(x // 8), y // 8 : -(y // 8)] = TISSUE
    for start in (x // 4, x // 2 + 1):
        las[start : start + x // 5, y // 4 : -(y // 4), lung_from:-1] = LUNG
    return las


def test_lungs_are_found_and_air_around_the_body_is_not() -> None:
    las = boxes((32, 32, 12))
    mask, steps = lung_mask(las, (8.0, 8.0, 8.0))  # 8 mm voxels are coarser than the grid: none is left out
    assert steps == (1, 1, 1) and mask.dtype == bool
    np.testing.assert_array_equal(mask, las == LUNG)


def test_the_grid_is_about_4_mm_along_each_axis() -> None:
    las = np.repeat(np.repeat(np.repeat(boxes((64, 48, 30)), 4, 0), 3, 1), 2, 2)
    mask, steps = lung_mask(las, (1.0, 1.4, 2.2))
    assert steps == (4, 3, 2)
    np.testing.assert_array_equal(mask, (las == LUNG)[::4, ::3, ::2])


def test_small_air_is_no_lung() -> None:
    las = boxes((32, 32, 12))
    lungs = las == LUNG
    las[15, 8, 1:3] = AIR  # 1 ml of bowel gas below the lungs
    mask, _ = lung_mask(las, (8.0, 8.0, 8.0))
    np.testing.assert_array_equal(mask, lungs)


@pytest.mark.parametrize(("side_mm", "found"), [(6.2, False), (6.4, True)])
def test_a_component_under_300_ml_is_no_lung(side_mm: float, found: bool) -> None:
    las = np.full((20, 20, 20), TISSUE, np.int16)
    las[5:15, 5:16, 5:16] = LUNG  # 1210 voxels: 288 ml of 6.2 mm, 317 ml of 6.4 mm
    mask, _ = lung_mask(las, (side_mm,) * 3)
    assert mask.sum() == (1210 if found else 0)


def test_a_lung_cut_off_by_the_picture_counts_as_outside() -> None:
    las = boxes((32, 32, 24))
    las[:16, 12:14, 12] = AIR  # a slice in which the first lung is open to the left edge
    mask, _ = lung_mask(las, (8.0, 8.0, 8.0))
    assert not mask[:16, :, 12].any() and mask[:16, :, 11].any() and mask[17:, :, 12].any()


@pytest.mark.parametrize("lung_from", [0, 1, 3, 7])
def test_first_lung_slice(lung_from: int) -> None:
    assert first_lung_slice(boxes((32, 32, 16), lung_from), (8.0, 8.0, 8.0)) == lung_from


@pytest.mark.parametrize("lung_from", range(9))
def test_no_slice_with_lung_is_lost_in_thin_slices(lung_from: int) -> None:
    # Slices of 1 mm are looked at every 4 mm: up to 3 slices too many are kept, and none too few.
    first = first_lung_slice(boxes((32, 32, 48), lung_from), (10.0, 10.0, 1.0))
    assert max(0, lung_from - 3) <= first <= lung_from


def test_no_lung_no_slice() -> None:
    assert first_lung_slice(np.full((16, 16, 6), TISSUE, np.int16), (8.0, 8.0, 8.0)) is None
    assert first_lung_slice(np.full((16, 16, 6), AIR, np.int16), (8.0, 8.0, 8.0)) is None


def disc(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    row, column = np.ogrid[: shape[0], : shape[1]]
    return (row - centre[0]) ** 2 + (column - centre[1]) ** 2 <= radius**2


def test_the_region_of_a_slice_holds_lungs_and_20_mm_around_them() -> None:
    picture = np.full((200, 200), AIR, np.int16)
    picture[disc((200, 200), (100, 100), 90)] = TISSUE
    lung = disc((200, 200), (100, 60), 25)
    picture[lung] = LUNG
    picture[disc((200, 200), (100, 150), 5)] = LUNG  # 1 cm2 of bowel gas
    region = lung_region(picture, 2.0)
    assert region[lung].all() and not region[disc((200, 200), (100, 150), 5)].any()
    around = disc((200, 200), (100, 60), 25 + 8) & ~disc((200, 200), (100, 60), 25 + 2)
    assert region[around].all()  # 4 to 16 mm away
    assert not region[~disc((200, 200), (100, 60), 25 + 13)].any()  # over 26 mm away


@pytest.mark.parametrize("hu", [AIR, TISSUE])
def test_a_slice_without_lung_has_no_region(hu: int) -> None:
    region = lung_region(np.full((50, 40), hu, np.int16), 1.5)
    assert region.shape == (50, 40) and not region.any()

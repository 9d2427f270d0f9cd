"""Row 23: a label that is not on the grid of its image; row 27: values that are no HU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lungseg.errors import DataError
from lungseg.nifti import read_scan
from lungseg.pairs import check_pair, hu_warnings

from .volumes import affine_of, chest_like, write_volume

SHAPE = (20, 20, 9)


@pytest.fixture
def image(tmp_path: Path):
    return read_scan(write_volume(tmp_path / "image.nii.gz", chest_like(SHAPE), affine_of("LPS")))


def label_of(tmp_path: Path, shape=SHAPE, affine: np.ndarray | None = None):
    array = np.zeros(shape, np.uint8)
    return read_scan(write_volume(tmp_path / "label.nii.gz", array, affine_of("LPS") if affine is None else affine))


def test_the_same_grid_passes_with_rounding(tmp_path: Path, image) -> None:
    check_pair(image, label_of(tmp_path, affine=affine_of("LPS") * (1 + 1e-6)))


@pytest.mark.parametrize(
    ("code", "shape", "affine"),
    [
        ("grid-shape", (20, 20, 8), None),
        ("grid-spacing", SHAPE, affine_of("LPS", (0.7, 0.8, 2.6))),
        ("grid-direction", SHAPE, affine_of("LAS")),
        ("grid-direction", SHAPE, affine_of("RPS")),
        ("grid-origin", SHAPE, affine_of("LPS", origin_mm=(-89, -110, 30))),
        ("grid-origin", SHAPE, affine_of("LPS", origin_mm=(-90, -110, 32.5))),
    ],
)
def test_row_23_other_grids_are_refused_with_the_numbers(tmp_path: Path, image, code: str, shape, affine) -> None:
    with pytest.raises(DataError) as caught:
        check_pair(image, label_of(tmp_path, shape, affine))
    problem = caught.value.problem
    assert problem.code == code and problem.expected and problem.found and problem.mend
    assert problem.file.endswith("label.nii.gz")


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("hu-8-bit", lambda hu: (hu + 1000) / 8),
        ("hu-all-negative", lambda hu: hu - 3000),
        ("hu-no-air", lambda hu: hu + 1024),
        ("hu-constant", lambda hu: hu * 0),
    ],
)
def test_row_27_values_that_are_no_hu_are_warned_of(tmp_path: Path, code: str, change) -> None:
    array = change(chest_like(SHAPE).astype(float).clip(-1000, 900)).astype(np.int16)
    problems = hu_warnings(read_scan(write_volume(tmp_path / "a.nii.gz", array)))
    assert [problem.code for problem in problems] == [code]
    assert problems[0].severity == "warning"


def test_a_chest_in_hu_is_not_warned_of(image) -> None:
    assert hu_warnings(image) == []

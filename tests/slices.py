"""Scans without any symmetry for the tests of preprocessing, in files of any orientation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np

from lungseg.errors import Problem
from lungseg.preprocess import Preprocessed, preprocess

from .volumes import affine_of, chest_like, write_volume

LAS_MM = (0.7, 0.8, 2.5)
SHAPE = (36, 44, 7)  # not square, in voxels as in mm


def scan_of(seed: int = 0) -> np.ndarray:
    """int16 HU [left, front, head] without any symmetry, beyond the clip in places."""
    las = chest_like(SHAPE, seed)
    las[5:12, 30:40, 2:5] = 20_349
    las[-6:, :4] = -3024
    return las


def label_of() -> np.ndarray:
    """uint8 [left, front, head]: a tumour of 5 x 4 x 3 voxels, one of them taken out."""
    label = np.zeros(SHAPE, np.uint8)
    label[20:25, 10:14, 2:5] = 1
    label[20, 10, 4] = 0
    return label


def turned(las: np.ndarray, codes: str, las_mm: tuple = LAS_MM) -> tuple[np.ndarray, np.ndarray]:
    """A L-A-S volume as a file of another orientation would hold it, and that file's affine."""
    start = nib.orientations.axcodes2ornt("LAS")
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
    affine = affine_of("LAS", las_mm) @ nib.orientations.inv_ornt_aff(change, las.shape)
    return np.ascontiguousarray(nib.orientations.apply_orientation(las, change)), affine


def write_pair(root: Path, name: str, las: np.ndarray, label: np.ndarray | None, codes: str = "LAS") -> None:
    write_volume(root / f"{name}.nii", *turned(las, codes))
    if label is not None:
        write_volume(root / f"{name}_label.nii", *turned(label, codes))


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def codes_of(problems: Iterable[Problem]) -> list[tuple[str, str]]:
    return [(problem.case, problem.code) for problem in problems]


def again(root: Path, out: Path, **options) -> Preprocessed:
    """``preprocess`` with the settings of most tests: 16 pixels, two slices skipped, in this process."""
    return preprocess(root, out, **{"size": 16, "skip_slices": 2, "workers": 1} | options)

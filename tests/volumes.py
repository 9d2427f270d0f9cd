"""Tiny scans for the tests: anisotropic, in any orientation, with an affine that is never the identity."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np

ALL_ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations((("R", "L"), ("A", "P"), ("S", "I")))
    for codes in itertools.product(*axes)
]


def affine_of(
    codes: str, spacing_mm: tuple[float, ...] = (0.7, 0.8, 2.5), origin_mm: tuple = (-90, -110, 30)
) -> np.ndarray:
    """Affine of a file whose axes grow to ``codes``, with these voxel sizes along the file's axes."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        row, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}[code]
        affine[row, axis] = sign * spacing_mm[axis]
    affine[:3, 3] = origin_mm
    return affine


def chest_like(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """int16 [x, y, z] with air around soft tissue around lung: enough for the HU checks and the lung finder.

    The patients of two seeds differ by a pattern of 6 x 6 columns, so that none is taken for a copy of another; that of
    seed 0 has none.
    """
    grid = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    body = grid[0] ** 2 + grid[1] ** 2 < 0.85
    lungs = ((np.abs(grid[0]) - 0.4) / 0.3) ** 2 + (grid[1] / 0.6) ** 2 < 1
    rng = np.random.default_rng(seed)
    rows, columns = (np.arange(size) * 6 // size for size in shape[:2])
    pattern = rng.choice([-120, 120] if seed else [0], (6, 6))[rows[:, None], columns][..., None]
    volume = np.where(body, np.where(lungs, -850, 40) + pattern, -1000)
    return (volume + rng.normal(0, 15, shape)).astype(np.int16)


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray | None = None, kind: type = nib.Nifti1Image) -> Path:
    """Write an array as NIfTI through nibabel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = kind(array, affine_of("LAS") if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def write_raw(path: Path, data: bytes) -> Path:
    """Write the bytes of a NIfTI file, packed where the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 1, mtime=0) if path.name.endswith(".gz") else data)
    return path


def raw_bytes(array: np.ndarray, affine: np.ndarray | None = None) -> bytearray:
    """The bytes of a NIfTI-1 file of an array, to be broken by a test."""
    image = nib.Nifti1Image(array, affine_of("LAS") if affine is None else affine)
    image.header.set_xyzt_units("mm")
    return bytearray(image.to_bytes())


def write_damaged_tree(root: Path, cases: int) -> Path:
    """A tree as :func:`write_tree` makes it, whose scan lung_003 is cut off."""
    bad = write_tree(root, cases) / "imagesTr/lung_003.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-100])
    return root


def write_tree(root: Path, cases: int = 3, test_cases: int = 1, shape: tuple[int, int, int] = (24, 24, 10)) -> Path:
    """A small Task06_Lung tree; the tumour of case n begins at voxel (6 + n, 6, 4)."""
    names = [f"lung_{number:03d}" for number in range(1, cases + 1)]
    for number, name in enumerate(names):
        label = np.zeros(shape, np.uint8)
        label[6 + number : 9 + number, 6:10, 4:7] = 1
        write_volume(root / "imagesTr" / f"{name}.nii.gz", chest_like(shape, number))
        write_volume(root / "labelsTr" / f"{name}.nii.gz", label)
    tests = [f"lung_{cases + number:03d}" for number in range(1, test_cases + 1)]
    for number, name in enumerate(tests):
        write_volume(root / "imagesTs" / f"{name}.nii.gz", chest_like(shape, 100 + number))
    content = {
        "name": "test", "numTraining": cases, "numTest": test_cases,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": [f"./imagesTs/{n}.nii.gz" for n in tests],
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def tree_bytes(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, but for the lock."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lungseg.lock"
    }

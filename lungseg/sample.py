"""A synthetic Task06_Lung: chest phantoms with tumours, drawn from a seed, for trying everything without a download."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .errors import UsageError
from .executor import run_cases
from .files import atomic_write, clear_temporary, make_folder, require_free_space
from .folder_lock import folder_lock
from .place import local
from .progress import progress
from .records import write_json
from .sample_anatomy import Anatomy, make_anatomy
from .sample_lesions import Lesion, draw_tumour
from .sample_lookalikes import draw_distractors
from .sample_nifti import nifti_bytes
from .sample_render import render, scan
from .sample_shapes import Grid
from .sample_trees import Tubes, draw_tubes, grow

EXTENT_MM = (290.0, 360.0, 360.0)  # z, y, x of a usual chest scan
_FINEST_MM = 2.3  # thick slices are averaged from thinner ones, as a scanner's are
_SMALLEST_SHAPE = 32
SHARE_OF_UP_TO = (0.5, 0.85)  # of the patients have one tumour, at most two
_CRUMB_ML = 0.1  # a part this small that thick slices cut off a tumour is no tumour to be found
_GOLDEN, _SQRT2 = 0.6180339887498949, 1.4142135623730951  # steps of a Kronecker sequence: even, and no cycle


def phantom(
    shape: tuple[int, int, int] = (256, 256, 64), seed: int = 0, case: int = 1
) -> tuple[NDArray[np.int16], NDArray[np.uint8], tuple[float, float, float]]:
    """One patient: the scan, its tumour mask and the voxel size.

    The anatomy follows from ``seed`` and ``case`` alone; ``shape`` only says how finely the whole chest is sampled.

    Args:
        shape: voxels along x, y, z.
        seed: of the whole sample, 0 or more.
        case: number of the patient, 0 or more.

    Returns:
        image ``int16 [x, y, z]``, L-A-S, HU in [-1024, 3071]; label ``uint8 [x, y, z]``, 0 or 1; spacing_mm (x, y, z).

    Raises:
        UsageError: the shape is too small to hold a chest, or the seed or case is negative.
    """
    _check(shape, seed, case)
    streams = [np.random.default_rng([seed, case, part]) for part in range(6)]
    zoom = streams[0].uniform(0.95, 1.06)
    extent = (EXTENT_MM[0] * streams[0].uniform(0.98, 1.03), EXTENT_MM[1] * zoom, EXTENT_MM[2] * zoom)
    columns, rows, slices = shape
    fold = max(1, int(np.ceil(extent[0] / slices / _FINEST_MM)))
    grid = Grid((slices * fold, rows, columns), extent)
    anatomy = make_anatomy(streams[1], extent)
    volume, lungs = render(streams[2], anatomy, grid)
    vessels = _fill_lungs(streams[3], volume, anatomy, grid)
    contrast = anatomy.build.contrast_hu
    draw_distractors(streams[4], volume, lungs, anatomy, grid, 42 + 0.12 * contrast)
    tumour = np.zeros(grid.shape, np.uint8)
    # Evenly spread over sizes and kinds, so that a few cases already show small and large tumours, solid and not.
    start, first = np.random.default_rng([seed, 18]).random(2).tolist()
    # One to three tumours: more than in Task06_Lung, so that the eight patients of the demo are enough to learn from.
    for number in range(1 + int(np.searchsorted(SHARE_OF_UP_TO, streams[4].random()))):
        rank = (start + _GOLDEN * case + 0.37 * number) % 1.0
        kind = (first + _SQRT2 * case + 0.37 * number) % 1.0
        lesion = Lesion.draw(streams[4], rank, kind, contrast)
        draw_tumour(streams[4], volume, tumour, lungs, anatomy, grid, lesion, vessels)
    image = scan(streams[5], volume, grid, fold)
    label = tumour.reshape(slices, fold, rows, columns).sum(axis=1, dtype=np.uint8) * 2 >= fold
    spacing = (extent[2] / columns, extent[1] / rows, extent[0] / slices)
    label = _without_crumbs(label, float(np.prod(spacing)) / 1000.0)
    return image.transpose(2, 1, 0), label.astype(np.uint8).transpose(2, 1, 0), spacing


def _without_crumbs(label: NDArray[np.bool_], voxel_ml: float) -> NDArray[np.bool_]:
    """The label without parts under ``_CRUMB_ML``, unless there is nothing larger."""
    parts, count = ndimage.label(label, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = (sizes * voxel_ml >= _CRUMB_ML) | (sizes == sizes.max())
    kept[0] = False
    return kept[parts]


def _fill_lungs(rng: np.random.Generator, volume: NDArray[np.floating[Any]], anatomy: Anatomy, grid: Grid) -> Tubes:
    """Draw arteries, veins and airways of both lungs; returns the vessels."""
    contrast = anatomy.build.contrast_hu
    every = []
    for name, roots in (
        ("lung_right", ((-36, -4, 10), (-30, -12, -6), (-34, -12, 14))),
        ("lung_left", ((42, -8, 22), (36, -14, -4), (42, -16, 20))),
    ):
        field = anatomy.fields[name]
        for root, ends, tip, kind in zip(roots, (1200, 800, 60), (0.64, 0.66, 0.7), ("a", "v", "b"), strict=True):
            spots = np.argwhere(field < (-12 if kind == "b" else -3))
            spots = spots[rng.choice(len(spots), ends, replace=False)]
            places = np.stack([anatomy.grid.axis_mm(axis)[spots[:, axis]] for axis in range(3)], axis=1)
            places = places + rng.uniform(-1.5, 1.5, places.shape)
            tubes = grow(rng, anatomy.place(root), places, tip)
            if kind == "b":
                draw_tubes(volume, grid, tubes, -250.0, wall_mm=0.9)
                draw_tubes(volume, grid, tubes, -960.0, darker=True)
            else:
                draw_tubes(volume, grid, tubes, 45 + 0.6 * contrast)
                every.append(tubes)
    return Tubes(
        np.concatenate([tubes.start for tubes in every]),
        np.concatenate([tubes.stop for tubes in every]),
        np.concatenate([tubes.radius for tubes in every]),
    )


def write_sample(
    out: str | Path,
    *,
    cases: int = 12,
    test_cases: int = 2,
    shape: tuple[int, int, int] = (256, 256, 64),
    seed: int = 0,
    workers: int | None = None,
) -> Path:
    """Write a synthetic tree in the layout of Task06_Lung.

    A case depends on (seed, its number, shape) alone, so the same call gives the same bytes with any number of workers.

    Args:
        out: folder to write; made where it is missing, cases of the same name are replaced.
        cases: labelled patients, ``imagesTr`` and ``labelsTr``.
        test_cases: patients without label, ``imagesTs``.
        shape: voxels along x, y, z.
        seed: 0 or more.
        workers: processes; None for one per core.

    Returns:
        The folder.

    Raises:
        UsageError: a number is out of range, or ``out`` is no folder.
        MachineError: the disk is full, or another process writes there.
    """
    if cases < 1 or test_cases < 0:
        raise UsageError.of("bad-count", "a sample needs at least one labelled case", found=f"{cases} and {test_cases}")
    _check(shape, seed, 0)
    out = local(out)
    total = cases + test_cases
    with folder_lock(out, stage="sample"):
        require_free_space(out, int(1.6 * total * np.prod(shape)), stage="sample")
        for folder in ("imagesTr", "labelsTr", "imagesTs"):
            clear_temporary(make_folder(out / folder))
        jobs = {f"lung_{number:03d}": (number, number <= cases) for number in range(1, total + 1)}
        work = partial(_write_case, out, shape, seed)
        for outcome in progress(run_cases(work, jobs, workers=workers), what="sample", total=total):
            if outcome.error is not None:
                raise outcome.error
        write_json(out / "dataset.json", _dataset(cases, test_cases))
    return out


def _check(shape: tuple[int, int, int], seed: int, case: int) -> None:
    if len(shape) != 3 or min(shape) < 1 or min(shape[:2]) < _SMALLEST_SHAPE or shape[2] < 16:
        raise UsageError.of(
            "bad-shape",
            "a chest does not fit this shape",
            expected="at least 32 32 16",
            found=" ".join(map(str, shape)),
        )
    if seed < 0 or case < 0:
        raise UsageError.of("bad-seed", "seed and case must be 0 or more", found=f"{seed} and {case}")


def _write_case(out: Path, shape: tuple[int, int, int], seed: int, job: tuple[int, bool]) -> None:
    number, labelled = job
    image, label, spacing = phantom(shape, seed, number)
    name = f"lung_{number:03d}.nii.gz"
    atomic_write(out / ("imagesTr" if labelled else "imagesTs") / name, nifti_bytes(image, spacing))
    if labelled:
        atomic_write(out / "labelsTr" / name, nifti_bytes(label, spacing))


def _dataset(cases: int, test_cases: int) -> dict[str, Any]:
    """``dataset.json`` with the keys of the real one."""

    def names(folder: str, numbers: range) -> list[str]:
        return [f"./{folder}/lung_{number:03d}.nii.gz" for number in numbers]

    train = range(1, cases + 1)
    return {
        "name": "lungseg sample (synthetic)",
        "description": "Chest phantoms with lung tumours, drawn by lungseg; no patient's data",
        "reference": "lungseg",
        "licence": "Synthetic; CC0 1.0 (data) and Apache-2.0 (the code that draws it)",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "cancer"},
        "numTraining": cases,
        "numTest": test_cases,
        "training": [
            {"image": image, "label": label}
            for image, label in zip(names("imagesTr", train), names("labelsTr", train), strict=True)
        ],
        "test": names("imagesTs", range(cases + 1, cases + test_cases + 1)),
    }

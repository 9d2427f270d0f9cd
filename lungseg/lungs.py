"""The lung region of a chest CT by threshold and connected components: lungs are easy."""

from __future__ import annotations

import numpy as np

LUNG_BELOW_HU = -400.0  # halfway between lung (about -850) and soft tissue (about 40)
_GRID_MM = 4.0
_SMALLEST_LUNG_ML = 300.0


def lung_mask(las: np.ndarray, las_spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Air inside the body, on a grid of about 4 mm.

    Args:
        las: HU [left, front, head].
        las_spacing_mm: voxel size along these axes.

    Returns:
        bool mask on the coarse grid, and the step (voxels of the scan for one of the grid) along each axis.  Bowel gas
        can be in it; everything is False where no component has the size of a lung.
    """
    from scipy import ndimage  # half of the start-up time of `lungseg preprocess`, which seldom needs it

    steps = tuple(max(1, round(_GRID_MM / size)) for size in las_spacing_mm)
    coarse = las[:: steps[0], :: steps[1], :: steps[2]] < LUNG_BELOW_HU
    outside = np.zeros_like(coarse)
    for z in range(coarse.shape[2]):  # air that touches the picture's edge in its slice is outside the body
        plane, _ = ndimage.label(coarse[..., z])
        edge = np.unique(np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]]))
        outside[..., z] = np.isin(plane, edge[edge > 0])
    parts, count = ndimage.label(coarse & ~outside)
    voxel_ml = float(np.prod([step * size for step, size in zip(steps, las_spacing_mm, strict=True)])) / 1000.0
    sizes_ml = np.bincount(parts.ravel(), minlength=count + 1) * voxel_ml
    sizes_ml[0] = 0
    return (sizes_ml >= _SMALLEST_LUNG_ML)[parts], (steps[0], steps[1], steps[2])


def first_lung_slice(las: np.ndarray, las_spacing_mm: tuple[float, ...]) -> int | None:
    """Index of an axial slice below which no lung shows; None where no lung is found.

    The lowest slice of lung, or up to a step of the coarse grid (4 mm) below it: no slice with lung is lost.
    """
    mask, steps = lung_mask(las, las_spacing_mm)
    shown = np.flatnonzero(mask.any(axis=(0, 1)))
    return max(0, (int(shown[0]) - 1) * steps[2] + 1) if shown.size else None

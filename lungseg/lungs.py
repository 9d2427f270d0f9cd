"""The lung region of a chest CT by threshold and connected components: lungs are easy."""

from __future__ import annotations

import numpy as np

LUNG_BELOW_HU = -400.0  # halfway between lung (about -850) and soft tissue (about 40)
_GRID_MM = 4.0
_SMALLEST_LUNG_ML = 300.0
_SMALLEST_SECTION_MM2 = 500.0  # of a lung in one slice; less is bowel gas or an airway
_AROUND_LUNG_MM = 20.0


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


def lung_region(picture: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Where in an axial slice a lung tumour can be: the lungs, and what lies within 20 mm of them.

    A tumour is not air, so the lungs alone would leave it out; 20 mm around them hold 98 % of the tumour of the
    embedded sample and 97 % of that of 46 patients of Task06_Lung, in a fifth to a third of the picture.  One slice is
    enough, so that stacks with gaps are treated as whole scans are.

    Args:
        picture: HU [row, column].
        pixel_mm: side of a pixel.

    Returns:
        bool [row, column]; all False where the slice shows no lung.
    """
    from scipy import ndimage

    step = max(1, round(_GRID_MM / pixel_mm))
    coarse = picture[::step, ::step] < LUNG_BELOW_HU
    parts, count = ndimage.label(coarse)
    wanted = np.bincount(parts.ravel(), minlength=count + 1) * (step * pixel_mm) ** 2 >= _SMALLEST_SECTION_MM2
    wanted[0] = False
    wanted[np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))] = False  # outside the body
    if not wanted.any():
        return np.zeros(picture.shape, bool)
    near = ndimage.distance_transform_edt(~wanted[parts], sampling=step * pixel_mm) <= _AROUND_LUNG_MM
    return near.repeat(step, 0).repeat(step, 1)[: picture.shape[0], : picture.shape[1]]

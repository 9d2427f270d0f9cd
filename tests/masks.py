"""Pairs of masks for the measures: smooth blobs, noise and edge cases, on anisotropic grids, decided by a number."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# The last pairs come close to a tolerance of 2 mm in whole voxels, where rounding would show.
GRIDS_MM = ((0.7, 0.8, 2.5), (1.0, 1.0, 1.0), (0.4, 0.4, 2.0), (0.5, 2.0, 1.25), (3.0, 0.3, 0.9))


def random_pair(number: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Truth, prediction (bool [x, y, z], neither of them empty) and voxel size."""
    rng = np.random.default_rng(number)
    shape = rng.integers(1, 22, 3)
    masks = []
    for _ in range(2):
        field = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 3))
        mask = field > np.quantile(field, rng.uniform(0.05, 0.99))
        mask.flat[rng.integers(mask.size)] = True
        masks.append(mask)
    spacing = GRIDS_MM[number % 10] if number % 10 < len(GRIDS_MM) else tuple(rng.uniform(0.3, 3.0, 3))
    return masks[0], masks[1], (float(spacing[0]), float(spacing[1]), float(spacing[2]))


def boxes(shape: tuple[int, int, int], *boxes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """A mask of boxes, each ``((x0, x1), (y0, y1), (z0, z1))``."""
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[tuple(slice(*ends) for ends in box)] = True
    return mask

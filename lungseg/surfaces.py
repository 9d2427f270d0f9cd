"""Distances between the surfaces of two masks: normalised surface Dice and robust Hausdorff distance.

Both are defined as in google-deepmind/surface-distance (Nikolov et al., "Clinically Applicable Segmentation of Head and
Neck Anatomy for Radiotherapy", J Med Internet Res 2021;23(7):e26151), which the Medical Segmentation Decathlon used: a
surface element lies where the 2 x 2 x 2 voxels around a corner of voxels are neither all tumour nor all not, and weighs
as much as the surface that marching cubes draws between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

from .components import bounding_box

TOLERANCE_MM = 2.0  # of `nsd_2mm`: the Decathlon's tolerance for lung tumours
_INSIDE = 255  # the code of a corner whose eight voxels are all tumour


@dataclass(frozen=True)
class SurfaceDistances:
    """Each surface element of two masks: how far it lies from the other surface, and how large it is.

    Args:
        truth_mm: float [n], from the elements of the true surface to the nearest of the predicted one; infinite where
            the prediction is empty.
        truth_mm2: float [n], their areas.
        predicted_mm: float [m], the other way round.
        predicted_mm2: float [m], their areas.
    """

    truth_mm: np.ndarray
    truth_mm2: np.ndarray
    predicted_mm: np.ndarray
    predicted_mm2: np.ndarray

    def dice(self, tolerance_mm: float = TOLERANCE_MM) -> float:
        """Normalised surface Dice: the share of both surfaces that lies within the tolerance of the other one.

        Returns:
            0.0 to 1.0; 1.0 where both masks are empty, 0.0 where one is.
        """
        total = self.truth_mm2.sum() + self.predicted_mm2.sum()
        if total == 0:
            return 1.0
        near = self.truth_mm2[self.truth_mm <= tolerance_mm].sum()
        near += self.predicted_mm2[self.predicted_mm <= tolerance_mm].sum()
        return float(near / total)

    def hausdorff_mm(self, percent: float = 95.0) -> float | None:
        """Robust Hausdorff distance: the larger of the two distances below which ``percent`` of a surface's area lies.

        Returns:
            Millimetres; 0.0 where both masks are empty, None where one is: there is no distance to nothing.
        """
        if not self.truth_mm.size and not self.predicted_mm.size:
            return 0.0
        if not self.truth_mm.size or not self.predicted_mm.size:
            return None
        return max(
            _percentile(self.truth_mm, self.truth_mm2, percent),
            _percentile(self.predicted_mm, self.predicted_mm2, percent),
        )


def surface_distances(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float, float]
) -> SurfaceDistances:
    """Measure two masks on one grid.

    Only the common box of both is looked at, and only surfaces are searched, so memory grows with the masks and not
    with the scan.  A mask that touches the edge of the scan is closed there.

    Args:
        truth: ``[x, y, z]``, tumour where it is not 0.
        prediction: the same shape.
        spacing_mm: voxel size along these axes.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> truth, found = np.zeros((2, 6, 6, 6), bool)
        >>> truth[2, 2, 2] = found[2, 2, 5] = True
        >>> surface_distances(truth, found, (1.0, 1.0, 3.0)).hausdorff_mm()
        9.0
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, the prediction {prediction.shape}")
    boxes = [box for box in (bounding_box(truth), bounding_box(prediction)) if box is not None]
    if not boxes:
        return SurfaceDistances(*np.zeros((4, 0)))
    common = tuple(
        slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in zip(*boxes, strict=True)
    )
    areas_mm2 = element_areas_mm2(*spacing_mm)
    codes = [_codes(mask[common]) for mask in (truth, prediction)]
    surfaces = [(code != 0) & (code != _INSIDE) for code in codes]
    places = [np.argwhere(surface) for surface in surfaces]
    distances = []
    for own, other, other_surface in ((0, 1, surfaces[1]), (1, 0, surfaces[0])):
        apart_mm = np.zeros(len(places[own]))
        far = ~other_surface[tuple(places[own].T)]
        apart_mm[far] = _nearest_mm(places[own][far], places[other], spacing_mm)
        distances.append(apart_mm)
    sizes = [areas_mm2[code[surface]] for code, surface in zip(codes, surfaces, strict=True)]
    return SurfaceDistances(distances[0], sizes[0], distances[1], sizes[1])


@lru_cache(maxsize=8)
def element_areas_mm2(x_mm: float, y_mm: float, z_mm: float) -> np.ndarray:
    """Area of the surface element of each of the 256 neighbourhoods of a corner, float [256].

    The bits of a neighbourhood are its 2 x 2 x 2 voxels in C order, the first voxel the highest bit.  The surface is
    that of the first marching cubes (Lorensen and Cline, SIGGRAPH 1987): corners are put halfway, and a neighbourhood
    with more than four voxels of tumour is drawn as its complement.
    """
    face_mm2 = np.array([y_mm * z_mm, x_mm * z_mm, x_mm * y_mm])
    return np.array([np.linalg.norm(normals * face_mm2, axis=1).sum() for normals in _element_normals()])


@lru_cache(maxsize=1)
def _element_normals() -> list[np.ndarray]:
    """Of each neighbourhood the triangles' normals [n, 3], as long as a triangle's area in units of voxels."""
    from skimage.measure import marching_cubes

    normals = [np.zeros((0, 3))] * (_INSIDE + 1)
    for code in range(1, _INSIDE):
        voxels = np.unpackbits(np.uint8(code)).reshape(2, 2, 2)
        cube = voxels if voxels.sum() <= 4 else 1 - voxels
        points, triangles, _, _ = marching_cubes(cube.astype(np.float32), 0.5, method="lorensen")
        a, b, c = points[triangles].astype(np.float64).swapaxes(0, 1)
        normals[code] = np.cross(b - a, c - a) / 2.0
    return normals


def _codes(mask: np.ndarray) -> np.ndarray:
    """The neighbourhood of each corner of a mask [x, y, z]: uint8 [x + 1, y + 1, z + 1]; outside is no tumour."""
    padded = np.pad(mask != 0, 1).astype(np.uint8)
    code = np.zeros([size + 1 for size in mask.shape], np.uint8)
    ends = (slice(None, -1), slice(1, None))
    for place in np.ndindex(2, 2, 2):
        code <<= 1
        code |= padded[tuple(ends[side] for side in place)]
    return code


def _nearest_mm(from_: np.ndarray, to: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Distance of each place to the nearest of others; both are indices [n, 3].  Infinite where there is none."""
    if not len(from_) or not len(to):
        return np.full(len(from_), np.inf)
    nearest = cKDTree(to * np.asarray(spacing_mm), balanced_tree=False).query(from_ * np.asarray(spacing_mm))[1]
    # From whole steps, and not from positions in mm: a distance of just the tolerance must not be lost to rounding.
    return np.sqrt(np.square((from_ - to[nearest]) * np.asarray(spacing_mm, np.float64)).sum(axis=1))


def _percentile(distances_mm: np.ndarray, areas_mm2: np.ndarray, percent: float) -> float:
    """The distance below which ``percent`` of the area lies."""
    order = np.argsort(distances_mm, kind="stable")
    shares = np.cumsum(areas_mm2[order])
    place = int(np.searchsorted(shares / shares[-1], percent / 100.0))
    return float(distances_mm[order[min(place, len(order) - 1)]])

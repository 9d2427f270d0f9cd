"""Connected tumours of a mask: volume, longest axial diameter, slices, place and mean probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cc3d
import cv2
import numpy as np
from numpy.typing import ArrayLike

CONNECTIVITY: Final = 26  # voxels that share a face, an edge or a corner are one tumour

# Sides of a mask from which on cc3d (4.1.1) has room for all labels that a binary image may need.  Of thinner ones, as
# of a line of voxels with gaps, it expects too few and raises; a layer of nothing gives it the room.
_THICK = 5


@dataclass(frozen=True)
class Tumour:
    """One connected tumour.

    Args:
        voxels: how many.
        volume_ml: their volume, millilitres.
        diameter_mm: largest distance within one axial slice, between outer corners of pixels.
        slices: first and last axial slice that it touches, indices into the L-A-S scan.
        centre_mm: mean position along L, A, S, millimetres from the centre of voxel (0, 0, 0).
        mean_probability: 0 to 1, over its voxels; None where no probabilities were given.
    """

    voxels: int
    volume_ml: float
    diameter_mm: float
    slices: tuple[int, int]
    centre_mm: tuple[float, float, float]
    mean_probability: float | None


def label_components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected components (26 neighbours) of a mask from 1.

    Args:
        mask: bool, three axes.

    Returns:
        Labels of the same shape, 0 where there is nothing; how many components there are.
    """
    inside = tuple(slice(side) for side in mask.shape)
    if min(mask.shape) < _THICK:
        mask = np.pad(mask, ((0, 1),) * 3)
    labels, count = cc3d.connected_components(mask, connectivity=CONNECTIVITY, return_N=True, binary_image=True)
    return labels[inside], count


def tumours(
    mask: np.ndarray, spacing_mm: tuple[float, float, float], probability: np.ndarray | None = None
) -> list[Tumour]:
    """The connected components of a mask, largest volume first (then in the order of their first slice).

    Beside the mask it needs memory for labels of the tumours' common bounding box, and for one tumour's box at a time.

    Args:
        mask: [L, A, S], bool, or numbers of which all but 0 are tumour.
        spacing_mm: voxel size along L, A, S.
        probability: [L, A, S], the same shape; floats of 0 to 1, or uint8 that counts in 255ths.  Only looked at inside
            the mask.

    Raises:
        ValueError: ``probability`` has another shape than ``mask``.

    Example:
        >>> mask = np.zeros((8, 8, 3), bool)
        >>> mask[2:5, 2:6, 1] = True
        >>> [(tumour.voxels, tumour.diameter_mm) for tumour in tumours(mask, (1.0, 1.0, 5.0))]
        [(12, 5.0)]
    """
    if probability is not None and probability.shape != mask.shape:
        raise ValueError(f"probability has shape {probability.shape}, the mask {mask.shape}")
    box = bounding_box(mask)
    if box is None:
        return []
    labels, count = label_components(mask[box] != 0)
    statistics = cc3d.statistics(labels)
    start = np.array([part.start for part in box])
    found = []
    for label in range(1, count + 1):
        inner = statistics["bounding_boxes"][label]
        inside = labels[inner] == label
        voxels = int(statistics["voxel_counts"][label])
        first = int(start[2] + inner[2].start)
        centre = (start + statistics["centroids"][label]) * spacing_mm
        found.append(
            Tumour(
                voxels=voxels,
                volume_ml=voxels * float(np.prod(spacing_mm)) / 1000.0,
                diameter_mm=axial_diameter_mm(inside, spacing_mm[:2]),
                slices=(first, first + inside.shape[2] - 1),
                centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
                mean_probability=None if probability is None else _mean(probability[box][inner][inside]),
            )
        )
    return sorted(found, key=lambda tumour: (-tumour.voxels, tumour.slices, tumour.centre_mm))


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds all voxels of ``mask`` [L, A, S] that are not 0; None where there are none."""
    # The last axis first: in the file's own (Fortran) order its planes are contiguous, and most hold nothing.
    used = np.array([plane.any() for plane in np.moveaxis(mask, 2, 0)], bool)
    if not used.any():
        return None
    z = _extent(used)
    flat = np.asarray(mask[:, :, z].any(axis=2))
    return _extent(flat.any(axis=1)), _extent(flat.any(axis=0)), z


def axial_diameter_mm(mask: np.ndarray, spacing_mm: tuple[float, float]) -> float:
    """The largest distance between two outer corners of pixels that lie in one axial slice.

    Corners and not centres, so that one pixel has the length of its diagonal and a row of n pixels is n pixels long;
    a disc comes out about one pixel too long.

    Args:
        mask: bool [L, A, S], with no slice or any number of them empty.
        spacing_mm: pixel size along L and A.

    Returns:
        Millimetres; 0.0 where the mask is empty.
    """
    largest = 0.0
    for plane in np.moveaxis(mask, 2, 0):
        columns = np.flatnonzero(plane.any(axis=1))
        if columns.size == 0:
            continue
        # The two ends of each column of pixels; all other pixels lie between them, and so inside the hull.
        low = plane[columns].argmax(axis=1)
        high = plane.shape[1] - plane[columns, ::-1].argmax(axis=1)
        ends = np.concatenate([np.stack([columns + side, end], 1) for side in (0, 1) for end in (low, high)])
        # The hull is found on whole numbers, which is exact; stretching the axes afterwards keeps it the hull.
        corners = cv2.convexHull(ends.astype(np.int32))[:, 0] * np.asarray(spacing_mm, np.float64)
        between = corners[:, None] - corners[None]
        largest = max(largest, float(np.square(between).sum(-1).max()))
    return largest**0.5


def _extent(used: ArrayLike) -> slice:
    positions = np.flatnonzero(used)
    return slice(int(positions[0]), int(positions[-1]) + 1)


def _mean(values: np.ndarray) -> float:
    mean = float(values.mean(dtype=np.float64))
    return mean / 255.0 if values.dtype == np.uint8 else mean

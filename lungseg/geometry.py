"""From a scan's own grid to square slices and back: orientation, padding, resizing, each with its inverse beside it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

# The two ends of each axis of the patient, the one that L-A-S grows to first, and the sign of it in R-A-S.
_ENDS = ("LR", "AP", "SI")
_SIGNS = (-1.0, 1.0, 1.0)
_ORDERS = tuple(itertools.permutations(range(3)))


@dataclass(frozen=True)
class Orientation:
    """How the axes of a file lie in the patient.

    Args:
        codes: direction that each axis of the file grows to, such as ``LPS``.
        oblique_deg: largest angle between an axis of the file and the nearest axis of the patient, degrees.
    """

    codes: str
    oblique_deg: float

    @property
    def axes(self) -> tuple[int, int, int]:
        """The axis of the file that runs along left, along front and along head."""
        left, front, head = (next(axis for axis in range(3) if self.codes[axis] in ends) for ends in _ENDS)
        return left, front, head

    @property
    def flips(self) -> tuple[slice, slice, slice]:
        """The step along left, front and head that turns those axes around which run the other way in the file."""
        steps = (1 if self.codes[axis] == ends[0] else -1 for axis, ends in zip(self.axes, _ENDS, strict=True))
        left, front, head = (slice(None, None, step) for step in steps)
        return left, front, head


def orientation_of(affine: np.ndarray) -> Orientation:
    """Orientation of a voxel-to-R-A-S affine (float [4, 4]): the assignment of axes with the largest cosines in all."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)  # [axis of the patient, axis of the file]
    # Rounded, so that of two equally good ones (45 degrees) the first is taken.
    totals = [round(float(np.abs(cosines[order, (0, 1, 2)]).sum()), 9) for order in _ORDERS]
    patient = _ORDERS[int(np.argmax(totals))]  # of each axis of the file
    nearest = cosines[patient, (0, 1, 2)]
    codes = (_ENDS[axis][int(value * _SIGNS[axis] < 0)] for axis, value in zip(patient, nearest, strict=True))
    return Orientation("".join(codes), float(np.degrees(np.arccos(np.abs(nearest).clip(0, 1))).max()))


def to_las(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, Orientation]:
    """Reorder and flip the axes so that they grow to the left, the front and the head.  Nothing is resampled.

    Args:
        voxels: [x, y, z] in the order of the file, any dtype.
        affine: float [4, 4], voxel index to R-A-S mm.

    Returns:
        The view [left, front, head] of the same memory, its affine, and the orientation that :func:`from_las` needs.
    """
    orientation = orientation_of(affine)
    to_file = np.zeros((4, 4))  # index in L-A-S to index in the file
    to_file[3, 3] = 1.0
    for las_axis, (axis, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
        to_file[axis, las_axis] = flip.step
        to_file[axis, 3] = voxels.shape[axis] - 1 if flip.step < 0 else 0
    return voxels.transpose(orientation.axes)[orientation.flips], affine @ to_file, orientation


def from_las(las: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Undo :func:`to_las`: the view [x, y, z] in the order of the file."""
    return las[orientation.flips].transpose(np.argsort(orientation.axes))


def slice_of(las: np.ndarray, z: int) -> np.ndarray:
    """Axial slice ``z`` of an L-A-S volume as a picture [row, column]: front up, the patient's right on the left."""
    return las[:, ::-1, z].T


def slice_to_las(picture: np.ndarray) -> np.ndarray:
    """Undo :func:`slice_of`: the plane [left, front] of a picture [row, column]."""
    return picture.T[:, ::-1]


@dataclass(frozen=True)
class SliceGrid:
    """The step between a scan's own axial pictures and square slices of ``size`` pixels.

    Pictures are padded to a square in millimetres, so that nothing is squashed, and then resized.

    Args:
        rows: rows of the scan's own picture (front to back).
        columns: its columns (right to left).
        pad: pixels added, ((top, bottom), (left, right)).
        size: rows and columns of a slice.
    """

    rows: int
    columns: int
    pad: tuple[tuple[int, int], tuple[int, int]]
    size: int

    @classmethod
    def of(cls, las_shape: tuple[int, ...], las_spacing_mm: tuple[float, ...], size: int) -> SliceGrid:
        """The grid for a scan of this shape (voxels) and spacing (mm), both along L, A, S."""
        (columns, rows), (column_mm, row_mm) = las_shape[:2], las_spacing_mm[:2]
        side_mm = max(rows * row_mm, columns * column_mm)
        extra_rows = max(0, round(side_mm / row_mm) - rows)
        extra_columns = max(0, round(side_mm / column_mm) - columns)
        pad = (_halves(extra_rows), _halves(extra_columns))
        return cls(rows, columns, pad, size)

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns after padding."""
        return self.rows + sum(self.pad[0]), self.columns + sum(self.pad[1])

    def pixel_mm(self, las_spacing_mm: tuple[float, ...]) -> float:
        """Side of a slice's pixel, for the spacing (mm, along L, A, S) that the grid was made for."""
        rows, columns = self.padded
        return max(rows * las_spacing_mm[1], columns * las_spacing_mm[0]) / self.size

    def shrink_image(self, picture: np.ndarray, air: float) -> np.ndarray:
        """A picture [rows, columns] to a float32 slice [size, size]: area averaging, linear where it is enlarged."""
        picture = self._padded(np.ascontiguousarray(picture, np.float32), air)
        way = cv2.INTER_AREA if min(picture.shape) >= self.size else cv2.INTER_LINEAR
        return cv2.resize(picture, (self.size, self.size), interpolation=way)

    def shrink_mask(self, picture: np.ndarray) -> np.ndarray:
        """A mask [rows, columns] to a uint8 slice [size, size], by ``cv2.INTER_NEAREST`` as in the user's recipe."""
        picture = self._padded(np.ascontiguousarray(picture, np.uint8), 0)
        return cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_NEAREST)

    def grow(self, slice_: np.ndarray) -> np.ndarray:
        """A slice of probabilities [size, size] back to float32 [rows, columns]: linear, then the padding cut off."""
        rows, columns = self.padded
        way = cv2.INTER_AREA if rows < self.size and columns < self.size else cv2.INTER_LINEAR
        picture = cv2.resize(np.ascontiguousarray(slice_, np.float32), (columns, rows), interpolation=way)
        (top, _), (left, _) = self.pad
        return picture[top : top + self.rows, left : left + self.columns]

    def _padded(self, picture: np.ndarray, fill: float) -> np.ndarray:
        (top, bottom), (left, right) = self.pad
        if not (top or bottom or left or right):
            return picture
        return cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill)


def _halves(extra: int) -> tuple[int, int]:
    return extra // 2, extra - extra // 2

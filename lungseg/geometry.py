"""From a scan's own grid to square slices and back: orientation, padding, resizing, each with its inverse beside it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from nibabel import orientations

LAS = ("L", "A", "S")


@dataclass(frozen=True)
class Orientation:
    """How the axes of a file lie in the patient.

    Args:
        codes: direction that each axis of the file grows to, such as ``LPS``.
        oblique_deg: largest angle between an axis of the file and the nearest axis of the patient, degrees.
    """

    codes: str
    oblique_deg: float

    def _transform(self, *, back: bool) -> np.ndarray:
        file = orientations.axcodes2ornt(tuple(self.codes))
        las = orientations.axcodes2ornt(LAS)
        return orientations.ornt_transform(las, file) if back else orientations.ornt_transform(file, las)


def orientation_of(affine: np.ndarray) -> Orientation:
    """Orientation of a voxel-to-R-A-S affine (float [4, 4]), by the nearest axes of the patient."""
    codes = orientations.aff2axcodes(affine)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # Each file axis against the patient axis that was assigned to it.
    patient_axis = orientations.io_orientation(affine)[:, 0].astype(int)
    cosines = np.abs(directions[patient_axis, range(3)]).clip(0, 1)
    return Orientation("".join(codes), float(np.degrees(np.arccos(cosines)).max()))


def to_las(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, Orientation]:
    """Reorder and flip the axes so that they grow to the left, the front and the head.  Nothing is resampled.

    Args:
        voxels: [x, y, z] in the order of the file, any dtype.
        affine: float [4, 4], voxel index to R-A-S mm.

    Returns:
        The view [left, front, head] of the same memory, its affine, and the orientation that :func:`from_las` needs.
    """
    orientation = orientation_of(affine)
    transform = orientation._transform(back=False)
    las = orientations.apply_orientation(voxels, transform)
    return las, affine @ orientations.inv_ornt_aff(transform, voxels.shape), orientation


def from_las(las: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Undo :func:`to_las`: the view [x, y, z] in the order of the file."""
    return orientations.apply_orientation(las, orientation._transform(back=True))


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

"""The one way in which a slice is made anywhere: training, prediction and evaluation agree."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .config import PreprocessConfig
from .errors import DataError
from .geometry import SliceGrid, slice_of
from .lungs import first_lung_slice

_INT16 = 1 << 15  # numbers of two bytes are below
SliceRoom = tuple[np.ndarray, np.ndarray]


def skipped_slices(las: np.ndarray, las_spacing_mm: tuple[float, ...], config: PreprocessConfig) -> int:
    """How many axial slices of a scan are dropped at the feet end.

    Args:
        las: HU [left, front, head].
        las_spacing_mm: voxel size along these axes.
        config: the settings.

    Raises:
        DataError: no slice would be left, or no lung is found for ``auto``.
    """
    skip = config.skip_slices
    if skip == "auto":
        found = first_lung_slice(las, las_spacing_mm)
        if found is None:
            raise DataError.of(
                "no-lung",
                "no lung is found in the scan",
                expected="a chest CT in HU",
                mend="Give --skip-slices as a number, or leave this scan out.",
            )
        return found
    # Headers hold float32: 7 mm in slices of 0.7 mm are 10.0000002 slices, and mean 10.
    count = math.ceil(float(skip[:-2]) / las_spacing_mm[2] - 1e-4) if skip.endswith("mm") else int(skip)
    if count >= las.shape[2]:
        raise DataError.of(
            "no-slice-left",
            "all slices of the scan would be skipped",
            expected=f"more than {count} axial slices",
            found=str(las.shape[2]),
            mend="Use a smaller --skip-slices, or `--skip-slices auto`.",
        )
    return count


def slice_image(
    las: np.ndarray, z: int, grid: SliceGrid, config: PreprocessConfig, room: SliceRoom | None = None
) -> np.ndarray:
    """Axial slice ``z`` as the network sees it.

    Args:
        las: HU [left, front, head].
        z: index of the slice.
        grid: the step to square slices.
        config: clip and divisor.
        room: to work in (:func:`slice_room`); for many slices, memory is then taken once.

    Returns:
        float16 [size, size], HU clipped and divided: air is -0.3256.
    """
    clipped, picture = room or slice_room(las)
    limits = float(config.hu_min), float(config.hu_max)
    if clipped.dtype == np.int16 and all(value.is_integer() and abs(value) < _INT16 for value in limits):
        # Clipped as numbers of two bytes, in half the time.
        np.clip(slice_of(las, z), int(limits[0]), int(limits[1]), out=clipped)
        np.copyto(picture, clipped, casting="unsafe")
    else:
        np.copyto(picture, slice_of(las, z), casting="unsafe")
        np.clip(picture, *limits, out=picture)
    small = grid.shrink_image(picture, config.hu_min)
    small /= np.float32(config.hu_max)
    # OpenCV rounds as numpy does, with the processor's own instruction: a tenth of the time.
    return cv2.convertFp16(small).view(np.float16) if hasattr(cv2, "convertFp16") else small.astype(np.float16)


def slice_room(las: np.ndarray) -> SliceRoom:
    """Room for :func:`slice_image` to work in, one for all slices of a scan: [rows, columns] as ``las`` and float32."""
    shape = las.shape[1], las.shape[0]
    return np.empty(shape, las.dtype), np.empty(shape, np.float32)


def slice_mask(las: np.ndarray, z: int, grid: SliceGrid) -> np.ndarray:
    """Axial slice ``z`` of a label ``[left, front, head]`` as a mask, ``uint8 [size, size]``, 0 or 1."""
    return grid.shrink_mask(slice_of(las, z))

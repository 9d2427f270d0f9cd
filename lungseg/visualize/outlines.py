"""The outline of a mask on a picture of another size."""

from __future__ import annotations

import cv2
import numpy as np

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_SQUARE = np.ones((3, 3), np.uint8)
# Half the width from which a tumour is thick enough for an outline of two pixels, pixels of the picture.
_THICK_PX = 5


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at the size of the picture, in which no pixel of tumour gets lost.

    Args:
        mask: ``[row, column]``, tumour where it is not 0.
        size: (width, height) of the picture, pixels.

    Returns:
        ``uint8 [height, width]``, 0 or 1.
    """
    share = (np.asarray(mask) != 0).astype(np.float32)
    zoom = (size[0] / share.shape[1], size[1] / share.shape[0])
    if min(zoom) >= 1.0:
        return cv2.resize(share, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    # A single pixel of the mask spreads over up to four of the picture, so one of these holds a quarter of its area.
    least = min(0.5, 0.25 * min(zoom[0], 1.0) * min(zoom[1], 1.0))
    return (cv2.resize(share, size, interpolation=cv2.INTER_AREA) >= 0.99 * least).astype(np.uint8)


def inner_outline(mask: np.ndarray) -> np.ndarray:
    """The rim of a mask (``uint8 [row, column]``, 0 or 1) on its inside, as ``bool``.

    The rim is one pixel wide, and two where the mask is thick, so that a small nodule is not covered by its outline.
    """
    framed = cv2.copyMakeBorder(mask, _THICK_PX, _THICK_PX, _THICK_PX, _THICK_PX, cv2.BORDER_CONSTANT, value=0)
    thick = cv2.morphologyEx(framed, cv2.MORPH_OPEN, _CROSS, iterations=_THICK_PX)
    inside = cv2.erode(framed, _CROSS)
    core = np.where(thick != 0, cv2.erode(inside, _CROSS), inside)
    return ((framed != 0) & (core == 0))[_THICK_PX:-_THICK_PX, _THICK_PX:-_THICK_PX]


def outer_outline(mask: np.ndarray, width_px: int = 2) -> np.ndarray:
    """The pixels outside a mask (``uint8 [row, column]``, 0 or 1) within ``width_px`` of it, as ``bool``."""
    return (cv2.dilate(mask, _SQUARE, iterations=width_px) != 0) & (mask == 0)

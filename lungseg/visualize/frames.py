"""The frames of an animation, drawn straight from the voxels: no plotting library, one slice in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from lungseg.errors import DataError
from lungseg.geometry import slice_of

from .caption import Caption, font
from .colours import BRIGHTEST_INDEX, PREDICTION_INDEX, TRUTH_INDEX
from .outlines import inner_outline, outer_outline, resized_mask
from .windows import Window, to_grey, window_name


@dataclass(frozen=True)
class Detail:
    """How much of the image a frame keeps; less of it makes a smaller file.

    Args:
        width: pixels of a frame, and the most rows of the slice in it.
        levels: how many greys.
        blur_px: standard deviation of the Gaussian that takes noise away, pixels of the frame; 0 for none.
    """

    width: int = 384
    levels: int = 64
    blur_px: float = 0.0


def picture_size(shape: tuple[int, int], spacing_mm: tuple[float, float], side: int) -> tuple[int, int]:
    """(width, height) in pixels of a slice that fits a square of ``side`` pixels and keeps its true proportions.

    Args:
        shape: rows and columns of the slice.
        spacing_mm: distance of two rows and of two columns, mm.
        side: pixels of the square.
    """
    height_mm, width_mm = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
    zoom = side / max(height_mm, width_mm)
    return max(1, round(width_mm * zoom)), max(1, round(height_mm * zoom))


def tumour_slices(*masks: np.ndarray | None) -> np.ndarray | None:
    """Which axial slices show tumour in any of the L-A-S masks ``[x, y, z]``: ``bool [z]``; ``None`` without a mask."""
    shown = [np.array([mask[:, :, z].any() for z in range(mask.shape[2])], bool) for mask in masks if mask is not None]
    return np.logical_or.reduce(shown) if shown else None


def render_frames(
    hu: np.ndarray,
    mask: np.ndarray | None,
    truth: np.ndarray | None,
    spacing_mm: Sequence[float],
    *,
    slices: Sequence[int] | None = None,
    case: str = "",
    window: Window = "lung",
    detail: Detail | None = None,
) -> Iterator[np.ndarray]:
    """The frames, front of the patient up and the patient's right on the left (marked R), caption below.

    The truth's outline runs around its tumour, the prediction's just inside, so that both are seen where they agree.

    Args:
        hu: L-A-S scan ``[x, y, z]``, HU.
        mask: predicted tumour on the same grid, not 0 where there is tumour; or ``None``.
        truth: true tumour, likewise.
        spacing_mm: distance of two voxels along x, y and z, mm.
        slices: indices along z, in the order to show; all of them without.
        case: name for the caption.
        window: HU range shown.
        detail: size, greys and blur.

    Yields:
        ``uint8 [row, column]``, indices into :data:`lungseg.visualize.PALETTE`; all of one size.

    Raises:
        DataError: an array is not three-dimensional, is empty, or a mask has another shape than the scan.
        UsageError: the window is none.
    """
    check_volumes(hu, mask, truth)
    detail = detail or Detail()
    size = picture_size((hu.shape[1], hu.shape[0]), (float(spacing_mm[1]), float(spacing_mm[0])), detail.width)
    caption = Caption(detail.width, case, window_name(window), _legend("truth", truth), _legend("prediction", mask))
    left = (detail.width - size[0]) // 2
    for z in range(hu.shape[2]) if slices is None else slices:
        frame = np.zeros((size[1] + caption.height, detail.width), np.uint8)
        picture = _grey_picture(slice_of(hu, z), size, window, detail)
        for volume, outline, index in ((truth, outer_outline, TRUTH_INDEX), (mask, inner_outline, PREDICTION_INDEX)):
            if volume is not None and volume[:, :, z].any():
                picture[outline(resized_mask(slice_of(volume, z), size))] = index
        frame[: size[1], left : left + size[0]] = picture
        frame[size[1] :] = caption.draw(z, hu.shape[2] - 1)
        yield frame


def check_volumes(hu: np.ndarray, *masks: np.ndarray | None) -> None:
    """Raise ``DataError`` unless the scan is a 3-D array with voxels and every mask has its shape."""
    if hu.ndim != 3 or hu.size == 0:
        raise DataError.of(
            "no-slices", "there is no slice to show", expected="a scan [x, y, z] with voxels", found=f"shape {hu.shape}"
        )
    for volume in masks:
        if volume is not None and volume.shape != hu.shape:
            raise DataError.of(
                "mask-shape",
                "mask and scan differ in shape",
                expected=f"{hu.shape}",
                found=f"{volume.shape}",
                mend="Take the mask that was made of this scan.",
            )


def _legend(name: str, volume: np.ndarray | None) -> str | None:
    if volume is None:
        return None
    return name if volume.any() else f"{name}: no tumour"


def _grey_picture(hu_slice: np.ndarray, size: tuple[int, int], window: Window, detail: Detail) -> np.ndarray:
    """One slice as palette indices at the picture's size, the patient's right marked."""
    shrinks = size[0] < hu_slice.shape[1] or size[1] < hu_slice.shape[0]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    smooth = cv2.resize(np.ascontiguousarray(hu_slice, np.float32), size, interpolation=kind)
    if detail.blur_px:
        smooth = cv2.GaussianBlur(smooth, (0, 0), detail.blur_px)
    grey = to_grey(smooth, window)
    top = detail.levels - 1
    # Every grey of the screen goes to the nearest of the few greys that are kept.
    keep = np.rint(np.rint(np.arange(256) / 255 * top) / top * BRIGHTEST_INDEX).astype(np.uint8)
    image = Image.fromarray(keep[grey])
    letter = font(max(10, min(13, detail.width // 28)))
    ImageDraw.Draw(image).text(
        (3, size[1] // 2), "R", fill=BRIGHTEST_INDEX, font=letter, anchor="lm", stroke_width=1, stroke_fill=0
    )
    return np.array(image)

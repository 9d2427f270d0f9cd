"""What the figures of slices share: how an array is read, a panel with its outlines, a grid of panels, a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lungseg.errors import DataError, UsageError

from .colours import PREDICTION_HEX, TRUTH_HEX
from .picture import Picture
from .windows import Window, to_grey, to_hu

Unit = Literal["preprocessed", "hu"]
"""Unit of an image: ``preprocessed`` is HU / 3071, as ``OUT/<case>/images`` holds it."""

# The prediction's line is thin and dashed and lies on the truth's, so that both are seen where they agree.
_TRUTH: dict[str, Any] = {"colors": TRUTH_HEX, "linewidths": 1.7}
_PREDICTION: dict[str, Any] = {"colors": PREDICTION_HEX, "linewidths": 1.2, "linestyles": [(0.0, (2.5, 1.5))]}


def plane(values: Any) -> np.ndarray:
    """A slice as a 2-D array: takes ``[row, column]`` or ``[1, row, column]``, numpy or tensor on any device.

    Raises:
        DataError: another number of dimensions, or no pixel.
    """
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or array.size == 0:
        raise DataError.of(
            "bad-slice", "is no slice", expected="[row, column] or [1, row, column]", found=f"shape {array.shape}"
        )
    return array


def mask_plane(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A mask as ``bool [row, column]``: :func:`plane`, tumour above one half.

    Raises:
        DataError: it has another shape than its image.
    """
    mask = plane(values) > 0.5
    if mask.shape != shape:
        raise DataError.of("mask-shape", "mask and image differ in shape", expected=f"{shape}", found=f"{mask.shape}")
    return mask


def check_counts(images: Sequence[Any] | np.ndarray, **others: Sequence[Any] | np.ndarray | None) -> None:
    """Raise ``DataError`` unless there are slices, and one of each other thing (or none at all) for every slice."""
    if len(images) == 0:
        raise DataError.of("no-slices", "there is no slice to show", expected="1 slice or more", found="0")
    for what, items in others.items():
        if items is not None and len(items) != len(images):
            raise DataError.of(
                "count", f"not one of {what} for each image", expected=str(len(images)), found=str(len(items))
            )


def draw_slice(
    axes: Axes, image: Any, mask: Any = None, truth: Any = None, *, window: Window = "lung", unit: Unit = "preprocessed"
) -> None:
    """One slice in ``axes`` with the outlines of prediction (``mask``) and truth, without ticks.

    Raises:
        DataError: it is no slice, or a mask has another shape.
        UsageError: the window or the unit is none.
    """
    if unit not in ("preprocessed", "hu"):
        raise UsageError.of("bad-unit", "there is no such unit", expected="preprocessed or hu", found=str(unit))
    hu = to_hu(plane(image)) if unit == "preprocessed" else plane(image)
    axes.imshow(to_grey(hu, window), cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    for values, style in ((truth, _TRUTH), (mask, _PREDICTION)):
        if values is None:
            continue
        area = mask_plane(values, hu.shape)
        if area.any():
            # A frame of zeros closes the outline of a tumour that reaches the edge of the slice.
            rows, columns = (np.arange(-1, n + 1) for n in area.shape)
            axes.contour(columns, rows, np.pad(area, 1).astype(float), levels=[0.5], **style)
    axes.set_xlim(-0.5, hu.shape[1] - 0.5)
    axes.set_ylim(hu.shape[0] - 0.5, -0.5)


def panel_grid(
    n: int, columns: int, *, title: str = "", foot: bool = False, width: float = 8.0
) -> tuple[Picture, list[Axes]]:
    """A figure of ``n`` square panels, ``width`` inches wide, with room for titles, and for a legend below.

    Raises:
        UsageError: ``columns`` is below 1.
    """
    if columns < 1:
        raise UsageError.of("bad-count", "too few columns", expected="1 or more", found=str(columns))
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    gap, label = 0.06, 0.22  # inches: between columns; for the text above a panel
    side = (width - gap * (columns + 1)) / columns
    above, below = (0.3 if title else 0.0), (0.32 if foot else gap)
    height = above + rows * (label + side) + below
    figure = Picture(figsize=(width, height), dpi=100)
    panels = []
    for i in range(n):
        row, column = divmod(i, columns)
        left = gap + column * (side + gap)
        bottom = height - above - (row + 1) * (label + side)
        panels.append(figure.add_axes((left / width, bottom / height, side / width, side / height)))
    if title:
        figure.text(0.5, 1 - 0.06 / height, title, fontsize=12, ha="center", va="top")
    return figure, panels


def outline_legend(figure: Picture, *, truth: str | None = "truth", prediction: str | None = "prediction") -> None:
    """Name the colours below the panels; ``None`` leaves one out."""
    handles: list[Artist] = [
        Line2D([], [], color=style["colors"], lw=style["linewidths"], ls=style.get("linestyles", ["-"])[0], label=name)
        for name, style in ((truth, _TRUTH), (prediction, _PREDICTION))
        if name is not None
    ]
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=10, borderaxespad=0.0)

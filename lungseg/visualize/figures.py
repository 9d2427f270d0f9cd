"""Figures of slices: a montage, and image, truth and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .colours import PREDICTION, TRUTH
from .panels import Unit, check_counts, draw_slice, mask_plane, outline_legend, panel_grid, plane
from .picture import Picture
from .selection import evenly
from .windows import Window

Slices = Sequence[Any] | np.ndarray
"""Slices ``[row, column]`` or ``[1, row, column]`` in a sequence, or stacked along axis 0; numpy or tensors."""


def montage(
    images: Slices,
    masks: Slices | None = None,
    truths: Slices | None = None,
    *,
    n: int = 12,
    columns: int = 4,
    labels: Sequence[object] | None = None,
    title: str = "",
    window: Window = "lung",
    unit: Unit = "preprocessed",
) -> Picture:
    """A grid of slices with the outlines of tumours.

    Args:
        images: slices; ``unit`` says in what.
        masks: predicted masks, one an image, tumour above 0.5; an empty one draws nothing.
        truths: true masks, likewise.
        n: the most slices to show; of more, as many are taken evenly.
        columns: panels in a row.
        labels: what stands above each slice; its index without.
        title: of the figure.
        window: HU range to show.
        unit: ``preprocessed`` (HU / 3071) or ``hu``.

    Raises:
        DataError: there is no slice, or masks and images do not match in number or shape.
        UsageError: ``n`` is below 1 or the window is none.
    """
    check_counts(images, masks=masks, truths=truths, labels=labels)
    chosen = evenly(len(images), n)
    outlined = masks is not None or truths is not None
    figure, panels = panel_grid(len(chosen), columns, title=title, foot=outlined)
    for axes, i in zip(panels, chosen, strict=True):
        mask, truth = (None if items is None else items[i] for items in (masks, truths))
        draw_slice(axes, images[i], mask, truth, window=window, unit=unit)
        axes.set_title(str(i if labels is None else labels[i]), fontsize=9, pad=2)
    outline_legend(
        figure, truth=None if truths is None else "truth", prediction=None if masks is None else "prediction"
    )
    return figure


def side_by_side(
    image: Any,
    truth: Any,
    prediction: Any,
    *,
    margin: int | None = None,
    title: str = "",
    window: Window = "lung",
    unit: Unit = "preprocessed",
) -> Picture:
    """Image, truth, prediction and the outlines of both on the image.

    Args:
        image: slice ``[row, column]`` or ``[1, row, column]``; ``unit`` says in what.
        truth: true mask of that shape, tumour above 0.5.
        prediction: predicted mask, likewise.
        margin: show no more than the tumours and this many pixels around them; the whole slice without.
        title: of the figure.
        window: HU range to show.
        unit: ``preprocessed`` (HU / 3071) or ``hu``.

    Raises:
        DataError: the shapes do not match.
        UsageError: the window is none.
    """
    image = plane(image)
    areas = [mask_plane(mask, image.shape) for mask in (truth, prediction)]
    figure, panels = panel_grid(4, 4, title=title, foot=True)
    for axes, name in zip(panels, ("image", "truth", "prediction", "both"), strict=True):
        draw_slice(axes, image, window=window, unit=unit)
        axes.set_title(name, fontsize=10, pad=2)
    for axes, area, colour in zip(panels[1:], areas, (TRUTH, PREDICTION), strict=False):
        layer = np.zeros((*image.shape, 4), np.uint8)
        layer[area] = (*colour, 255)
        axes.imshow(layer)
    draw_slice(panels[3], image, areas[1], areas[0], window=window, unit=unit)
    either = areas[0] | areas[1]
    if margin is not None and either.any():
        (top, bottom), (left, right) = (_span(either.any(axis=axis), margin) for axis in (1, 0))
        for axes in panels:
            axes.set_xlim(left - 0.5, right + 0.5)
            axes.set_ylim(bottom + 0.5, top - 0.5)
    outline_legend(figure)
    return figure


def _span(occupied: np.ndarray, margin: int) -> tuple[int, int]:
    """First and last index to show along one axis."""
    indices = np.flatnonzero(occupied)
    return max(0, int(indices[0]) - margin), min(len(occupied) - 1, int(indices[-1]) + margin)

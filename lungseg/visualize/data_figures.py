"""Figures of the training data: augmentation, and the class imbalance before and after the sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lungseg.errors import DataError

from .panels import Unit, check_counts, draw_slice, outline_legend, panel_grid
from .picture import Picture
from .windows import Window

_WITHOUT, _WITH = "#999999", "#0072b2"  # grey and blue of Okabe and Ito's palette


def augmentation_examples(
    pairs: Sequence[tuple[Any, Any]],
    *,
    columns: int = 3,
    title: str = "",
    window: Window = "lung",
    unit: Unit = "preprocessed",
) -> Picture:
    """An image with its mask, and what the augmentation made of them.

    Args:
        pairs: (image, mask), the original first; ``[row, column]`` or ``[1, row, column]`` each, numpy or tensors.
        columns: panels in a row.
        title: of the figure.
        window: HU range to show.
        unit: ``preprocessed`` (HU / 3071) or ``hu``.

    Raises:
        DataError: there is no pair, or an image and its mask differ in shape.
    """
    check_counts(pairs)
    figure, panels = panel_grid(len(pairs), columns, title=title, foot=True)
    for i, (axes, (image, mask)) in enumerate(zip(panels, pairs, strict=True)):
        draw_slice(axes, image, truth=mask, window=window, unit=unit)
        axes.set_title(f"augmented {i}" if i else "original", fontsize=9, pad=2)
    outline_legend(figure, truth="tumour", prediction=None)
    return figure


def class_imbalance(tumour_pixels: Sequence[int] | np.ndarray, weights: Sequence[float] | np.ndarray) -> Picture:
    """How many slices without and with tumour an epoch draws, without and with the weighted sampler.

    The numbers after the sampler are expected ones: an epoch draws as many slices as there are, each with a chance in
    proportion to its weight.

    Args:
        tumour_pixels: pixels of tumour in each slice, ``[N]``.
        weights: the sampler's weight of each slice, ``[N]``, not negative.

    Raises:
        DataError: there is no slice, the lengths differ, or the weights are no weights.
    """
    with_tumour = np.asarray(tumour_pixels).reshape(-1) > 0
    weight = np.asarray(weights, float).reshape(-1)
    if len(with_tumour) == 0 or len(weight) != len(with_tumour):
        raise DataError.of(
            "count", "not one weight a slice", expected=f"{len(with_tumour)} weights, 1 or more", found=str(len(weight))
        )
    if not (np.isfinite(weight).all() and weight.min() >= 0 and weight.sum() > 0):
        raise DataError.of("bad-weights", "the weights are no weights", expected="finite, 0 or more, not all 0")
    count = len(with_tumour)
    before = int(with_tumour.sum())
    after = count * float(weight[with_tumour].sum() / weight.sum())
    figure = Picture(figsize=(6.4, 3.2), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for shift, share_with in ((0, before), (1, after)):
        for offset, slices, colour in ((-0.2, count - share_with, _WITHOUT), (0.2, share_with, _WITH)):
            bar = axes.bar(shift + offset, slices, width=0.38, color=colour)
            axes.bar_label(bar, labels=[f"{slices:,.0f}\n{slices / count:.1%}"], padding=2, fontsize=9)
    axes.set_xticks([0, 1], ["as the slices are", "as the sampler draws them"])
    axes.set_ylabel("slices an epoch")
    axes.margins(y=0.22)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(axes.containers[:2], ["without tumour", "with tumour"], frameon=False, fontsize=9)
    return figure

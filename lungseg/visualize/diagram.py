"""A diagram of the U-Net, drawn from the module itself: every size in it was seen in a forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle

from .picture import Picture

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lungseg.unet import UNet

_ENCODER, _DECODER, _HEAD = "#56b4e9", "#e69f00", "#009e73"  # Okabe and Ito's palette
# Inches: from one block to the next, and from the first one to the sheet's upper and, with the last level, lower edge.
_ACROSS, _DOWN, _ABOVE, _BELOW = 0.86, 0.92, 0.8, 0.85
_LEFT = 1.6  # blocks' distances from the sheet's left edge to the first block


class _Style(NamedTuple):
    name: str
    colour: str
    line: Literal["-", "--"]


_PLAIN = _Style("", "black", "-")
_POOL = _Style("max pooling", "#0072b2", "-")
_UP = {
    "concat": _Style("upsampling", "#d55e00", "-"),
    "add": _Style("1x1 convolution, upsampling", "#d55e00", "-"),
}
_SKIP = {
    "concat": _Style("skip connection: concatenate", "#777777", "--"),
    "add": _Style("skip connection: add", "#777777", "--"),
}


@dataclass(frozen=True)
class Block:
    """One block as a forward pass saw it.

    Args:
        name: ``encoder.0`` is full resolution, ``decoder.0`` the deepest step up; then ``head`` and all, ``network``.
        input: channels, rows and columns that it took.
        output: channels, rows and columns that it gave.
    """

    name: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]


def block_shapes(model: UNet, input_size: int = 256) -> list[Block]:
    """What each block of the network takes and gives, in the order of the forward pass; the network itself comes last.

    Args:
        model: the network; its mode and weights are left as they are.
        input_size: rows and columns of the image.
    """
    import torch

    seen: list[Block] = []

    def note(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        return lambda _, inputs, output: seen.append(Block(name, _size(inputs[0]), _size(output)))

    named: list[tuple[str, nn.Module]] = [(f"encoder.{i}", block) for i, block in enumerate(model.encoder)]
    named += [(f"decoder.{i}", block) for i, block in enumerate(model.decoder)]
    named += [("head", model.head), ("network", model)]
    hooks = [module.register_forward_hook(note(name)) for name, module in named]
    was_training = model.training
    try:
        # Evaluation mode, so that the zeros leave no trace in running means of batch normalisation.
        model.eval()
        with torch.no_grad():
            model(next(model.parameters()).new_zeros((1, model.config.in_channels, input_size, input_size)))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return seen


def unet_diagram(model: UNet, input_size: int = 256, out: str | Path | None = None) -> Picture:
    """Encoder on the left, decoder on the right, full resolution on top; sizes are channels x rows x columns.

    A block's height goes with its rows and its width with its channels, both on a logarithmic scale.

    Args:
        model: the network.
        input_size: rows and columns of the image that the sizes are told for.
        out: also write the figure there (``.png``, ``.pdf`` or ``.svg``), in one step.

    Raises:
        UsageError: ``out`` has another suffix.
    """
    *blocks, head, network = block_shapes(model, input_size)
    encoder = [block for block in blocks if block.name.startswith("encoder")]
    bottom = len(encoder) - 1
    end = len(blocks) + 0.5  # column of the head
    figure, axes = _sheet(columns=end + 1.0 + _LEFT, levels=bottom)
    up, skip = _UP[model.config.skip], _SKIP[model.config.skip]
    boxes = [_Box(axes, block, level, level, _ENCODER) for level, block in enumerate(encoder)]
    for shallow, deep in pairwise(boxes):
        _arrow(axes, shallow.below, deep.left, _POOL, bend=True)
    last = boxes[-1]
    for i, block in enumerate(blocks[len(encoder) :]):
        level = bottom - 1 - i
        box = _Box(axes, block, bottom + 1 + i, level, _DECODER)
        _arrow(axes, box.below, last.right, up, bend=True, backwards=True)
        _arrow(axes, boxes[level].right, box.left, skip)
        last = box
    logit = _Box(axes, head, end, 0, _HEAD)
    _arrow(axes, last.right, logit.left, _PLAIN)
    axes.text(
        logit.below[0], logit.below[1] - 0.08, f"logits\n{_words(network.output)}", ha="center", va="top", fontsize=8
    )
    axes.text(-1.05 * _ACROSS, 0.0, f"image\n{_words(network.input)}", ha="center", va="center", fontsize=8)
    _arrow(axes, (-0.55 * _ACROSS, 0.0), boxes[0].left, _PLAIN)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    title = f"U-Net, {parameters:,} parameters (sizes: channels × rows × columns)"
    figure.text(0.5, 1 - 0.08 / figure.get_figheight(), title, fontsize=11, ha="center", va="top")
    layers = [", ".join(type(layer).__name__ for layer in half[0].children()) for half in (model.encoder, model.decoder)
              if len(half)]  # fmt: skip
    sides = layers[0] if len(set(layers)) == 1 else f"{layers[0]}, on the way up {layers[-1]}"
    axes.legend(
        handles=[Line2D([], [], color=way.colour, linestyle=way.line, label=way.name) for way in (_POOL, up, skip)],
        title=f"a block: {sides}; in each box: channels in → out",
        loc="lower center", ncols=3, frameon=False, fontsize=8, title_fontsize=8,
    )  # fmt: skip
    if out is not None:
        figure.write(out)
    return figure


def _sheet(columns: float, levels: int) -> tuple[Picture, Axes]:
    """An empty figure whose axes are in inches, block 0 at the origin; room for title and legend included."""
    width, height = columns * _ACROSS, _ABOVE + levels * _DOWN + _BELOW
    figure = Picture(figsize=(width, height), dpi=100)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(-_LEFT * _ACROSS, width - _LEFT * _ACROSS)
    axes.set_ylim(_ABOVE - height, _ABOVE)
    return figure, axes


class _Box:
    """A block in the drawing, and the points where arrows meet it.

    Args:
        axes: where to draw.
        block: what to draw.
        column: place from the left, 0 for the first block.
        level: how many poolings deep, 0 on top.
        colour: of the box.
    """

    def __init__(self, axes: Axes, block: Block, column: float, level: int, colour: str) -> None:
        x, y = column * _ACROSS, -level * _DOWN
        channels, rows, _ = block.output
        width, height = 0.36 + 0.015 * math.log2(channels), 0.26 + 0.035 * math.log2(rows)
        axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, fc=colour, ec="black", lw=0.8))
        axes.text(x, y + height / 2 + 0.04, _words(block.output), ha="center", va="bottom", fontsize=8)
        axes.text(x, y, f"{block.input[0]}\n→ {channels}", ha="center", va="center", fontsize=7)
        self.left, self.right = (x - width / 2, y), (x + width / 2, y)
        self.below = (x, y - height / 2)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    style: _Style,
    *,
    bend: bool = False,
    backwards: bool = False,
) -> None:
    """An arrow, straight or down and then across; ``backwards`` puts the head at ``start``."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="<|-" if backwards else "-|>",
            connectionstyle="angle,angleA=90,angleB=0" if bend else "arc3",
            mutation_scale=10,
            shrinkA=2,
            shrinkB=2,
            color=style.colour,
            linestyle=style.line,
            linewidth=1.3,
        )
    )


def _size(tensor: torch.Tensor) -> tuple[int, int, int]:
    _, channels, rows, columns = tensor.shape
    return channels, rows, columns


def _words(size: tuple[int, int, int]) -> str:
    return " × ".join(str(n) for n in size)

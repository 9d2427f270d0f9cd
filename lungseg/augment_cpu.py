"""The torch engine's transform on a CPU: a sample at a time, in memory that stays in the processor's cache.

The same positions as ``augment_torch.TorchAugment.positions`` to within rounding, in another order of work: what is
batched for a GPU costs a CPU most of its time in moving tensors of megabytes about.  ``tests/test_augment_cpu.py``
holds both to each other.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .config import AIR
from .randomness import SampleRandom
from .window import COARSE, window_starts

LEAST_EXPONENT = -30.0  # exp(-30) is nothing here, while subnormal numbers would slow matrix products down tenfold
_BILINEAR, _NEAREST = 0, 1  # torch.grid_sampler_2d's names of its modes, and of what lies outside
_ZEROS, _BORDER = 0, 1


@dataclass(frozen=True)
class Nodes:
    """Where the noise of the elastic displacement stands along one axis: at ``(k - half) * stride``, k from 0.

    Args:
        half: of them on each side of the slice's centre.
        stride: between two, in units of which ``side`` is the slice's side.
        side: of the slice.
    """

    half: int
    stride: float
    side: float

    def __len__(self) -> int:
        return 2 * self.half + 1

    def places(self, device: torch.device | None = None) -> Tensor:
        """``float32 [K]``."""
        return torch.arange(-self.half, self.half + 1, device=device) * self.stride


@dataclass(frozen=True)
class Move:
    """How one sample is moved.

    Args:
        inverse: from a place in the result to one in the slice, 2 x 2 for x and y, row by row.
        shift: of the result against the slice along x and y, in units of positions (2 is the side).
        strength: of the displacement, in units of positions, with what its Gaussian is multiplied with.
        smoothness: standard deviation of the Gaussian, in units of the nodes.
    """

    inverse: tuple[float, float, float, float]
    shift: tuple[float, float]
    strength: float
    smoothness: float


def move(
    image: Tensor, mask: Tensor, moves: Sequence[Move], nodes: Nodes, generator: SampleRandom, window: int
) -> tuple[Tensor, Tensor]:
    """Image (bilinear) and mask (nearest) of a batch, moved; outside is air and no tumour.

    Args:
        image: ``float32`` or ``float16 [B, C, S, S]``.
        mask: ``float32`` or ``uint8 [B, 1, S, S]``, 0 and 1.
        moves: what was drawn for each.
        nodes: of the noise.
        generator: the random numbers of the B samples.
        window: side of the square part that is wanted, pixels (see :mod:`lungseg.window`); 0 is the whole slice.

    Returns:
        ``float32 [B, C, side, side]`` and ``[B, 1, side, side]``.
    """
    size = image.shape[-1]
    side = window if 0 < window < size else size
    # In one piece: of two, the allocator would give one back to the system after every batch, and the system clears it.
    count, channels = image.shape[:2]
    new = torch.empty((channels + 1) * count, side, side)
    new_image = new[: channels * count].view(count, channels, side, side)
    new_mask = new[channels * count :].view(count, 1, side, side)
    mask, desk = mask.contiguous(), _DESKS.desk(size, nodes, channels)
    for k, noise in enumerate(generator.uniform_each("elastic", 2 * len(nodes) ** 2)):
        desk.lay(image[k], mask[k, 0], moves[k], noise)
        rows = columns = slice(None)
        if side < size:  # only what is seen is worked out
            row, column = window_starts(desk.coarse_mask(), generator.sample(k), size, side)[0].tolist()
            rows, columns = slice(row, row + side), slice(column, column + side)
        places = desk.places(rows, columns)
        new_image[k] = torch.grid_sampler_2d(desk.image, places, _BILINEAR, _BORDER, False)[0]
        new_mask[k] = torch.grid_sampler_2d(desk.mask, places, _NEAREST, _ZEROS, False)[0] if desk.tumour else 0.0
    return new_image, new_mask


class _Desk:
    """Room for one sample, used again for the next.

    Image and mask lie in the middle of canvases of twice their side: air (and no tumour) all around takes part in the
    interpolation by itself.  Positions are in units of the canvas.

    Positions are two matrix products, ``spread.T @ noise`` along rows and its product with ``spread`` along columns.
    Two more rows of ``spread``, 1 and the pixel's own place, meet a 2 x 2 corner of ``noise`` that holds the affine
    part, which so costs nothing.
    """

    def __init__(self, size: int, nodes: Nodes, channels: int) -> None:
        side, start, count = 2 * size, size // 2, len(nodes)
        self.image, self.mask = torch.full((1, channels, side, side), AIR), torch.zeros(1, 1, side, side)
        middle = slice(start, start + size)
        self._image, self._mask = self.image[0, :, middle, middle], self.mask[0, 0, middle, middle]
        self._off_centre = (2 * start - size) / side  # half a pixel where the side is odd
        self.tumour = False

        axis = (2.0 * torch.arange(size) + 1.0) / size - 1.0
        self._squared = (axis * (nodes.side / 2) - nodes.places()[:, None]) ** 2  # [node, pixel]
        self._spread = torch.ones(count + 2, size)  # [node; 1; place, pixel]
        self._spread[-1] = axis
        self._noise = torch.zeros(count + 2, 2, count + 2)  # [node; 1; place, (x, y), node; 1; place]
        self._affine = self._noise.numpy()[-2:, :, -2:]
        self._smooth = torch.empty(size, 2 * (count + 2))
        self._places = torch.empty(2 * size * size)

    def lay(self, image: Tensor, mask: Tensor, move: Move, noise: Tensor) -> None:
        """Put a sample on the desk.

        Args:
            image: ``[C, S, S]``.
            mask: ``[S, S]``, contiguous.
            move: where it is moved to.
            noise: uniform in [0, 1), ``float32 [2 * K * K]``.
        """
        self._image.copy_(image)
        self.tumour = bool(mask.numpy().view(np.uint8).any())  # of bytes, which is quicker than of numbers
        if self.tumour:
            self._mask.copy_(mask)
        gaussian = torch.mul(self._squared, -0.5 / move.smoothness**2, out=self._spread[:-2])
        gaussian.clamp_(min=LEAST_EXPONENT).exp_()
        xx, xy, yx, yy = (value / 2 for value in move.inverse)  # to units of the canvas
        shift_x, shift_y = move.shift
        self._affine[0, 0] = self._off_centre - xx * shift_x - xy * shift_y, xx
        self._affine[0, 1] = self._off_centre - yx * shift_x - yy * shift_y, yx
        self._affine[1, :, 0] = xy, yy
        # Uniform in [-1, 1) times strength, and turned as the slice is.
        terms = torch.tensor(((xx, xy, -xx - xy), (yx, yy, -yx - yy))) * move.strength
        noise = torch.addmm(terms[:, 2:], terms[:, :2], noise.view(2, -1), alpha=2.0)
        count = len(self._squared)
        self._noise[:-2, :, :-2] = noise.view(2, count, count).transpose(0, 1)

    def places(self, rows: slice, columns: slice) -> Tensor:
        """Where the pixels of these rows and columns are taken from, ``float32 [1, rows, columns, 2]``."""
        along, across = self._spread[:, rows].T, self._spread[:, columns]
        height, width = len(along), across.shape[1]
        smooth = torch.mm(along, self._noise.flatten(1), out=self._smooth[:height])
        places = self._places[: 2 * height * width].view(2 * height, width)  # [row * (x, y), column]
        torch.mm(smooth.view(2 * height, -1), across, out=places)
        return places.view(1, height, 2, width).transpose(2, 3)

    def coarse_mask(self) -> Tensor:
        """The moved mask at every second row and column, ``float32 [1, 1, h, w]``."""
        every = slice(None, None, COARSE)
        if not self.tumour:
            return torch.zeros(1, 1, 1, 1)
        return torch.grid_sampler_2d(self.mask, self.places(every, every), _NEAREST, _ZEROS, False)


class _Desks(threading.local):
    """The desk of a thread, for as long as slices and settings stay the same."""

    def __init__(self) -> None:
        self._key: tuple[int, Nodes, int] | None = None
        self._desk: _Desk | None = None

    def desk(self, size: int, nodes: Nodes, channels: int) -> _Desk:
        if self._desk is None or self._key != (size, nodes, channels):
            self._key, self._desk = (size, nodes, channels), _Desk(size, nodes, channels)
        return self._desk


_DESKS = _Desks()

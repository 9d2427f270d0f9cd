"""Bilinear upsampling by two whose gradient is worked out by weighted sums of neighbours.

torch's own gradient (``upsample_bilinear2d_backward``) goes through the fine pixels and adds each into four coarse
ones: on a GPU by atomic operations, which bf16 has to imitate, and in an order that changes from run to run.  Seen from
the coarse side it is a sum of fixed neighbours: the same numbers, far fewer transactions, always the same.  A CPU has
no such trouble, and torch's own gradient is the quicker one there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def twice_as_large(x: Tensor) -> Tensor:
    """Bilinear upsampling by two without aligned corners, as ``F.interpolate`` does it.

    Along each axis, fine pixel 2 i is 3/4 of coarse pixel i and 1/4 of the one before, fine pixel 2 i + 1 is 3/4 of it
    and 1/4 of the one after; at the edge the pixel itself stands in for its missing neighbour.

    Args:
        x: any float, ``[B, C, H, W]``.

    Returns:
        ``[B, C, 2 H, 2 W]``, of the same type and memory format.
    """
    learning = x.requires_grad and torch.is_grad_enabled()
    return _TwiceAsLarge.apply(x) if learning and x.device.type != "cpu" else _forward(x)


def _forward(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class _TwiceAsLarge(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return _forward(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        # Channels last, as the convolutions around it work: [B, H, W, C] without a copy.
        fine = gradients[0].permute(0, 2, 3, 1)
        return _gathered(_gathered(fine, axis=1), axis=2).permute(0, 3, 1, 2)


def _gathered(fine: Tensor, axis: int) -> Tensor:
    """The gradient of the coarse pixels along one axis: each sums what its fine ones and their neighbours took of it.

    Args:
        fine: gradient of the fine pixels, with an even number of them along ``axis``.
        axis: of the tensor.
    """
    pairs = fine.unflatten(axis, (-1, 2))
    even, odd = pairs.unbind(axis + 1)
    count = even.shape[axis]
    coarse = (even + odd).mul_(0.75)
    # Fine pixel 2 (i + 1) took a quarter of i, fine pixel 2 (i - 1) + 1 as well; at the edges each of its own.
    coarse.narrow(axis, 0, count - 1).add_(even.narrow(axis, 1, count - 1), alpha=0.25)
    coarse.narrow(axis, 1, count - 1).add_(odd.narrow(axis, 0, count - 1), alpha=0.25)
    coarse.narrow(axis, 0, 1).add_(even.narrow(axis, 0, 1), alpha=0.25)
    coarse.narrow(axis, count - 1, 1).add_(odd.narrow(axis, count - 1, 1), alpha=0.25)
    return coarse

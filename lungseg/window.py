"""The part of a slice that a training step sees: a square window, placed on the tumour where there is one.

A tumour covers a hundredth of a slice, so a step on whole slices spends nearly all of its work on what is no tumour.
Training on windows is what nnU-Net calls patches (Isensee et al., https://doi.org/10.1038/s41592-020-01008-z); the
network has no fully connected layer, so prediction takes whole slices all the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .randomness import DeviceRandom, SampleRandom

# A tumour pixel lies at most this share of the window from its centre along each axis: the tumour is seen at all
# places of the window, but for its rim, where most of it would be cut off.
REACH = 0.4
COARSE = 2  # every second pixel of a mask tells well enough where the tumour is


def window_starts(mask: Tensor, generator: SampleRandom | DeviceRandom, size: int, side: int) -> Tensor:
    """Where each sample's window begins.

    With tumour, the window holds one of its pixels, drawn uniformly; without, it lies anywhere in the slice.

    Args:
        mask: ``[B, 1, h, w]``, tumour where it is above 0; may be a coarser picture of the slice.
        generator: the random numbers of the B samples.
        size: side of the slice, pixels.
        side: of the window, pixels, at most ``size``.

    Returns:
        First row and first column, ``int64 [B, 2]``, 0 to ``size - side``, on the device of ``mask``.
    """
    rows, columns = mask.shape[-2:]
    u = generator.uniform("window", 3, mask.device)
    tumour = mask.flatten(1) > 0
    so_far = tumour.cumsum(1)
    count = so_far[:, -1:]
    chosen = (so_far > (u[:, :1] * count).long()).to(torch.uint8).argmax(1)  # the drawn one of the tumour's pixels
    share = torch.stack([(chosen // columns + 0.5) / rows, (chosen % columns + 0.5) / columns], 1)
    on_tumour = share * size - side * (0.5 + REACH * (2.0 * u[:, 1:] - 1.0))
    anywhere = u[:, 1:] * (size - side + 1)
    return torch.where(count > 0, on_tumour, anywhere).long().clamp_(0, size - side)


def cut(batch: Tensor, starts: Tensor, side: int) -> Tensor:
    """The windows of a batch.

    Args:
        batch: ``[B, size, size, ...]``.
        starts: from :func:`window_starts`.
        side: of the window, pixels.

    Returns:
        ``[B, side, side, ...]``, a copy.
    """
    steps = torch.arange(side, device=batch.device)
    rows, columns = starts[:, :1] + steps, starts[:, 1:] + steps  # [B, side]
    samples = torch.arange(len(batch), device=batch.device)
    return batch[samples[:, None, None], rows[:, :, None], columns[:, None, :]]

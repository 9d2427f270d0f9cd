"""Losses on logits: binary cross-entropy, soft Dice, and their sum.

Each takes ``logits`` and ``mask`` of shape ``[B, 1, H, W]`` and gives one number.  All are worked out in float32,
inside bf16 autocast too: a sum over 65,536 pixels has more digits than bf16's eight bits hold.  A batch that is shared
by several processes is one batch: its sums are taken over all of them (see ``ranks``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import UsageError
from .ranks import mean_over_ranks, sum_over_ranks

# Added to both sides of the Dice fraction, in pixels: an empty slice that is predicted empty has loss 0, and a few
# stray pixels there cost a little instead of everything.
SMOOTH = 1.0


def bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all pixels; 0 is best, 0.693 is a coin.

    Args:
        logits: any float, ``[B, 1, H, W]``.
        mask: 0 or 1, ``[B, 1, H, W]``.
    """
    return mean_over_ranks(F.binary_cross_entropy_with_logits(logits.float(), mask.float(), reduction="none"))


def soft_dice(logits: Tensor, mask: Tensor, *, per: str = "batch") -> Tensor:
    """1 - soft Dice (Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, https://arxiv.org/abs/1606.04797, sums unsquared).

    Args:
        logits: any float, ``[B, 1, H, W]``.
        mask: 0 or 1, ``[B, 1, H, W]``.
        per: ``batch`` pools all pixels of the batch, so that the many slices without tumour do not each count as a
            case of their own; ``sample`` takes the mean over slices.

    Returns:
        0 (best) to 1; 0 also where mask and prediction are both empty.
    """
    with torch.autocast(logits.device.type, enabled=False):
        probability, truth = logits.float().sigmoid(), mask.float()
        dims = (0, 1, 2, 3) if per == "batch" else (1, 2, 3)
        overlap = (probability * truth).sum(dims)
        total = probability.sum(dims) + truth.sum(dims)
        if per == "batch":
            overlap, total = sum_over_ranks(torch.stack([overlap, total]))
        loss = 1.0 - (2.0 * overlap + SMOOTH) / (total + SMOOTH)
        return loss if per == "batch" else mean_over_ranks(loss)


def dice_bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Soft Dice over the batch plus binary cross-entropy, one to one, as nnU-Net adds them."""
    return soft_dice(logits, mask) + bce(logits, mask)


def over_levels(loss: Callable[[Tensor, Tensor], Tensor], levels: Sequence[Tensor], mask: Tensor) -> Tensor:
    """The loss over predictions of several resolutions, each coarser one with half the weight of the one before.

    As nnU-Net weights its deep supervision (Isensee et al., Nature Methods 18, 2021).  What is true at a coarser level
    is the share of tumour in each square, so that a small tumour fades there and does not vanish.

    Args:
        loss: one of :data:`LOSSES`.
        levels: logits as :meth:`lungseg.unet.UNet.levels` gives them, ``[B, 1, H, W]`` first.
        mask: 0 or 1, ``[B, 1, H, W]``.

    Returns:
        The weighted mean; with one level the loss itself.
    """
    total, weights = loss(levels[0], mask), 1.0
    for level, logits in enumerate(levels[1:], start=1):
        bottom, right = (-side % 2**level for side in mask.shape[-2:])
        shares = F.avg_pool2d(F.pad(mask.float(), (0, right, 0, bottom)), 2**level)
        total, weights = total + loss(logits, shares) / 2**level, weights + 1.0 / 2**level
    return total / weights


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"bce": bce, "dice": soft_dice, "dice_bce": dice_bce}


def loss_named(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in LOSSES:
        raise UsageError.of("unknown-loss", "there is no such loss", expected=" or ".join(LOSSES), found=str(name))
    return LOSSES[name]

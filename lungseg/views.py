"""What a trained network is shown of a slice: the slice, its mirror image, and both at other zooms.

The mean of its answers may be better than one of them (test-time augmentation).  Of each view logits are brought back
to the slice, and between views probabilities are averaged: where the network is very sure at one zoom that there is no
tumour, the others can still say tumour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST, LARGEST, MOST = 0.5, 2.0, 8  # of zooms; memory grows with their squares
ZOOMS = f"at most {MOST} different numbers of {LEAST:g} to {LARGEST:g}, none of them 1"


def zooms_can_be_meant(zooms: Any) -> bool:
    """Whether they are :data:`ZOOMS`; what a file says may be anything."""
    if not isinstance(zooms, (list, tuple)) or len(zooms) > MOST:
        return False
    fit = all(type(zoom) in (int, float) and LEAST <= zoom <= LARGEST and zoom != 1 for zoom in zooms)
    return fit and len(set(zooms)) == len(zooms)


def mean_probability(
    forward: Callable[[Tensor], Tensor], image: Tensor, *, mirror: bool = False, zooms: Sequence[float] = ()
) -> Tensor:
    """Probability of tumour, the mean over all views.

    Args:
        forward: gives logits ``[B, 1, H, W]`` for images of any size.
        image: ``float32 [B, C, H, W]``, HU / 3071.
        mirror: also show each view left for right.
        zooms: further sizes, as factors of the slice's own; above 1 enlarges.

    Returns:
        ``float32 [B, 1, H, W]``, 0 to 1.
    """
    total, count = torch.zeros_like(image[:, :1]), 0
    for view in _zoomed(image, zooms):
        for turned in (False, True) if mirror else (False,):
            logits = forward(view.flip(-1)).flip(-1) if turned else forward(view)
            total += _resized(logits, image.shape[-2:]).sigmoid()
            count += 1
    return total / count


def _zoomed(image: Tensor, zooms: Sequence[float]) -> Iterator[Tensor]:
    yield image
    for zoom in zooms:
        yield _resized(image, [max(1, round(side * zoom)) for side in image.shape[-2:]])


def _resized(values: Tensor, sides: Sequence[int]) -> Tensor:
    if list(values.shape[-2:]) == list(sides):
        return values
    return F.interpolate(values, tuple(sides), mode="bilinear", antialias=True)

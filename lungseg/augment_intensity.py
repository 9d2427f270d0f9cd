"""Random changes of grey levels: sharpness, noise, contrast and level, the way in which scanners and doses differ.

The mask stays as it is.  All of it is drawn per sample and done on whole batches, on the device they are on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .augment import Augment
from .config import HU_MAX, AugmentConfig
from .randomness import SampleRandom

_REACH = 3.0  # a Gaussian is cut at this many standard deviations
_BLURRED = 0.5  # share of the samples that lose detail


class ChangedIntensity:
    """An engine whose images have their grey levels changed as well; ``torch`` does so by itself.

    Args:
        engine: makes the slices.
        config: the ranges.
    """

    def __init__(self, engine: Augment, config: AugmentConfig) -> None:
        self.engine, self.config = engine, config
        self.on_device = engine.on_device

    def __call__(self, image: Tensor, mask: Tensor, generator: SampleRandom) -> tuple[Tensor, Tensor]:
        image, mask = self.engine(image, mask, generator)
        return change_intensity(image, generator, self.config), mask


def changes_intensity(config: AugmentConfig) -> bool:
    """Whether the config asks for any change of grey levels."""
    return config.contrast != (1.0, 1.0) or bool(config.offset_hu or config.noise_hu or config.blur)


@torch.no_grad()
def change_intensity(image: Tensor, generator: SampleRandom, config: AugmentConfig) -> Tensor:
    """Blur, then noise, then contrast and offset, each where the config asks for it.

    Args:
        image: ``float32 [B, C, H, W]``, HU / 3071; B may be 0.
        generator: the random numbers of the B samples.
        config: the ranges.

    Returns:
        A new tensor of the same form.
    """
    if not len(image):
        return image  # a process' share of a last batch; a convolution by groups needs one
    u = generator.uniform("intensity", 5, image.device)[:, :, None, None, None].unbind(1)  # [B, 1, 1, 1] each
    if config.blur:
        sigma = torch.where(u[0] < _BLURRED, u[1] * config.blur, torch.zeros_like(u[1]))
        image = blurred(image, sigma.flatten(), config.blur)
    if config.noise_hu:
        # Uniform noise costs a fifth of normal noise, and a network can not tell them apart: its first layer adds up
        # nine pixels.  The factor brings it to a standard deviation of 1.
        noise = generator.uniform("noise", image[0].numel(), image.device).view_as(image)
        image = image + (noise * 2.0 - 1.0) * (math.sqrt(3.0) * config.noise_hu / HU_MAX * u[2])
    low, high = config.contrast
    factor = low + (high - low) * u[3]
    return image * factor + (2.0 * u[4] - 1.0) * (config.offset_hu / HU_MAX)


def blurred(image: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Each sample under a Gaussian of its own.

    Args:
        image: ``float32 [B, C, H, W]``; its edge is repeated outside.
        sigma: standard deviations, pixels, ``float32 [B]``; 0 leaves a sample as it is.
        largest: no ``sigma`` is above, pixels.
    """
    reach = max(1, math.ceil(_REACH * largest))
    distance = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    # At 0 the exponent has to be large and finite: the middle is then 1 and all else 0.
    kernel = torch.exp(-(distance**2) / (2.0 * sigma.clamp(min=0.1)[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None]  # [B, 1, K]
    kernel = kernel.repeat_interleave(image.shape[1], 0)  # [B * C, 1, K]
    planes = image.flatten(0, 1)[None]  # [1, B * C, H, W]
    rows = F.pad(planes, (reach, reach, reach, reach), mode="replicate")  # [1, B * C, H + 2r, W + 2r]
    rows = F.conv2d(rows, kernel[:, :, None], groups=len(kernel))
    return F.conv2d(rows, kernel[..., None], groups=len(kernel)).view_as(image)

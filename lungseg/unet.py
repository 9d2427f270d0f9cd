"""The network: a U-Net that maps a slice to one logit a pixel.

After Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015,
https://arxiv.org/abs/1505.04597), with padded convolutions, so that the output is as large as the input, and bilinear
upsampling in place of transposed convolutions; skips can also be added (``UNetConfig.skip``).  The comments give the
shapes of ``classic`` at 256 x 256.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import HU_MAX, UNetConfig
from .setting_types import check_types
from .upsampling import twice_as_large

MOST_LEVELS = 10  # a slice of 4096 pixels is 4 pixels wide by then
GROUPS = 8  # of group normalisation; fewer where the width does not divide by it


def check_unet(config: UNetConfig) -> None:
    """Check that a config is one of a network.

    Raises:
        UsageError: a setting is of another kind.
        ValueError: a number is out of its range.
    """
    check_types(config)
    if min(config.in_channels, config.patch, *config.widths) < 1 or not 1 <= len(config.widths) <= MOST_LEVELS:
        raise ValueError(f"channels and widths must be whole numbers above 0, 1 to {MOST_LEVELS} widths")
    if not 0 <= config.deep < len(config.widths):
        raise ValueError(f"deep must be a whole number of 0 to {len(config.widths) - 1}")
    if config.window_hu is not None and not -math.inf < config.window_hu[0] < config.window_hu[1] < math.inf:
        raise ValueError(f"window_hu is no range: {config.window_hu}")
    if not 0.0 < config.prior < 1.0:
        raise ValueError(f"prior is no probability between 0 and 1: {config.prior}")


def normalisation(kind: str, channels: int) -> nn.Module:
    """The layer for ``UNetConfig.norm``: ``batch``, ``group`` or ``instance``."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
    return nn.InstanceNorm2d(channels, affine=True)


class Convolutions(nn.Sequential):
    """3x3 convolution, normalisation (unless ``none``), ReLU, some times: ``[B, in, H, W]`` to ``[B, out, H, W]``."""

    def __init__(self, in_channels: int, out_channels: int, norm: str = "none", times: int = 2) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, *[out_channels] * (times - 1)):
            # A normalisation subtracts the mean, and with it any bias of the convolution before it.
            layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=norm == "none"))
            if norm != "none":
                layers.append(normalisation(norm, out_channels))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net with skip connections; ``UNet()`` is ``classic``: three poolings, no normalisation, 7,781,761 parameters.

    Args:
        config: its shape; the number of widths is its depth.

    Attributes:
        encoder: two convolutions a level, full resolution first; a 2x2 max pooling stands before all but the first.
        narrow: for each step up, deepest first, the 1x1 convolution to the width of the level above (``config.skip``:
            ``add``), or nothing.
        decoder: two convolutions for each step up, deepest first; one where skips are added.
        head: 1x1 convolution to one logit.
        deep_heads: the same for the coarser steps of the decoder that are trained too, finest first (``config.deep``).

    Example:
        >>> UNet()(torch.zeros(2, 1, 256, 256)).shape
        torch.Size([2, 1, 256, 256])
    """

    def __init__(self, config: UNetConfig = UNetConfig()) -> None:  # noqa: B008 (frozen, so safe to share)
        super().__init__()
        self.config = config
        widths, norm = config.widths, config.norm
        ins = (config.in_channels * config.patch**2, *widths[:-1])
        self.encoder = nn.ModuleList(Convolutions(i, o, norm) for i, o in zip(ins, widths, strict=True))
        steps_up = list(zip(widths[:0:-1], widths[-2::-1], strict=True))  # (512, 256), (256, 128), (128, 64)
        self.narrow = nn.ModuleList()
        if config.skip == "add":
            # Without bias: what the convolution afterwards adds makes up for it, but for the border.
            self.narrow.extend(nn.Conv2d(lower, upper, kernel_size=1, bias=False) for lower, upper in steps_up)
            self.decoder = nn.ModuleList(Convolutions(upper, upper, norm, times=1) for _, upper in steps_up)
        else:
            self.decoder = nn.ModuleList(Convolutions(lower + upper, upper, norm) for lower, upper in steps_up)
        self.head = nn.Conv2d(widths[0], config.patch**2, kernel_size=1)
        self.deep_heads = nn.ModuleList(
            nn.Conv2d(width, config.patch**2, kernel_size=1) for width in widths[1 : 1 + config.deep]
        )
        for head in (self.head, *self.deep_heads):
            if config.prior != 0.5 and isinstance(head, nn.Conv2d) and head.bias is not None:
                # Few pixels are tumour: begun at one half, the first steps would only push all others down.
                nn.init.constant_(head.bias, math.log(config.prior / (1.0 - config.prior)))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of tumour.

        Args:
            image: ``float [B, in_channels, H, W]``, HU / 3071, any H and W.

        Returns:
            ``[B, 1, H, W]``, logits: the probability is their sigmoid.
        """
        return self.levels(image, deep=0)[0]

    def levels(self, image: Tensor, deep: int | None = None) -> list[Tensor]:
        """Logits of tumour at full resolution, then those of coarser steps of the decoder, each half as fine.

        Args:
            image: as :meth:`forward` takes it.
            deep: how many coarser ones; None is all that there are.

        Returns:
            ``[B, 1, H, W]``, then ``[B, 1, ceil(H / 2), ceil(W / 2)]`` and so on.
        """
        height, width = image.shape[-2:]
        coarse: list[Tensor] = []
        heads = self.deep_heads[: self.config.deep if deep is None else deep]
        x = F.pixel_unshuffle(self._pad(self._windowed(image)), self.config.patch)  # [B, 1, 256, 256]

        skips = []
        for level, convolutions in enumerate(self.encoder):
            if level:
                skips.append(x)
                x = F.max_pool2d(x, 2)  # 256 -> 128 -> 64 -> 32
            x = convolutions(x)  # [B, 64, 256, 256] -> [B, 128, 128, 128] -> [B, 256, 64, 64] -> [B, 512, 32, 32]

        for step, (convolutions, skip) in enumerate(zip(self.decoder, reversed(skips), strict=True)):
            level = len(skips) - step  # of x, before it is brought up
            if 0 < level <= len(heads):
                coarse.append(self._shown(heads[level - 1](x), -(-height // 2**level), -(-width // 2**level)))
            if self.config.skip == "add":
                x = twice_as_large(self.narrow[step](x)) + skip  # narrowed first, which is cheaper and gives the same
            else:
                x = twice_as_large(x)  # 32 -> 64 -> 128 -> 256
                x = torch.cat([x, skip], dim=1)  # [B, 512 + 256, 64, 64] -> [B, 256 + 128, ...] -> [B, 128 + 64, ...]
            x = convolutions(x)  # [B, 256, 64, 64] -> [B, 128, 128, 128] -> [B, 64, 256, 256]

        return [self._shown(self.head(x), height, width), *reversed(coarse)]  # [B, 1, 256, 256], [B, 1, 128, 128], ...

    def _shown(self, x: Tensor, height: int, width: int) -> Tensor:
        """Logits of pixels out of those of patches, without what :meth:`_pad` added."""
        return F.pixel_shuffle(x, self.config.patch)[..., :height, :width]

    def _windowed(self, image: Tensor) -> Tensor:
        """HU / 3071 stretched to -1 to 1 over the window, where there is one."""
        if self.config.window_hu is None:
            return image
        low, high = (hu / HU_MAX for hu in self.config.window_hu)
        return (image.clamp(low, high) - low) * (2.0 / (high - low)) - 1.0

    def _pad(self, image: Tensor) -> Tensor:
        """Repeat the last row and column up to the next size that every pooling halves; ``forward`` crops them off.

        Repeating the edge keeps air as air: a zero would be water (0 HU).
        """
        multiple = self.config.patch * 2 ** len(self.decoder)
        bottom, right = -image.shape[-2] % multiple, -image.shape[-1] % multiple
        return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def parameter_count(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

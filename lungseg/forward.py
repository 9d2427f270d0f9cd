"""The forward pass of a trained network where nothing is learnt any more: as quick as the device is at it.

On a CPU that is fast at bf16, weights are turned to bf16 and into the processor's own layout once, batch normalisation
is folded into the convolution before it, and ReLU is done while a result is still in the cache (oneDNN's post-ops).
Everywhere else it is the network as it was trained, under autocast.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .device import autocast, fast_at_bf16
from .unet import Convolutions, UNet

Forward = Callable[[Tensor], Tensor]


def forward_of(net: UNet, device: torch.device, precision: str = "auto") -> Forward:
    """A function from images ``float32 [B, C, H, W]`` to logits ``[B, 1, H, W]`` that gives what ``net`` gives.

    Args:
        net: in evaluation mode, on ``device``; it is not changed, and later changes of it are not seen.
        device: where it runs.
        precision: ``auto``, ``32`` or ``bf16`` (see ``device.autocast``).
    """
    if precision in ("auto", "bf16") and device.type == "cpu" and fast_at_bf16(device) and _can_fuse(net):
        fused = _fused(net)

        def quick(image: Tensor) -> Tensor:
            with torch.inference_mode():
                return fused(image).float()

        return quick

    def plain(image: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(device, precision):
            return net(image.contiguous(memory_format=torch.channels_last)).float()

    return plain


def fetched(values: Tensor) -> Callable[[], np.ndarray]:
    """A function that gives ``values`` as an array; from a GPU they set off at once and nobody waits for them yet."""
    if values.device.type != "cuda":
        return values.cpu().numpy
    landed = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(values.device))

    def wait() -> np.ndarray:
        arrived.synchronize()
        return landed.numpy()

    return wait


class ConvReLU(nn.Module):
    """A 3 x 3 convolution with ReLU in bf16; any float ``[B, in, H, W]`` to ``bfloat16 [B, out, H, W]``, channels last.

    Args:
        weight: ``float32 [out, in, 3, 3]``.
        bias: ``float32 [out]``.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight.to(torch.bfloat16).contiguous(memory_format=torch.channels_last), [1, 1], [1, 1], [1, 1], 1, None
        )
        self.bias = bias.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, [1, 1], [1, 1], [1, 1], 1, "relu", [], ""
        )


def _can_fuse(net: UNet) -> bool:
    """Whether the network is made of what :class:`ConvReLU` can do, and this build of torch can do that."""
    if net.config.norm not in ("none", "batch") or not torch.backends.mkldnn.is_available():
        return False
    names = ("_reorder_convolution_weight", "_convolution_pointwise")  # what torch.compile uses; no promise of torch's
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    try:
        with torch.inference_mode():
            ConvReLU(torch.zeros(8, 8, 3, 3), torch.zeros(8))(torch.zeros(1, 8, 4, 4))
    except (RuntimeError, TypeError):  # it takes other arguments there
        return False
    return True


def _fused(net: UNet) -> UNet:
    """The same network out of :class:`ConvReLU`."""
    fused = copy.deepcopy(net)
    with torch.inference_mode():
        for blocks in (fused.encoder, fused.decoder):
            for number, block in enumerate(blocks):
                assert isinstance(block, Convolutions)
                layers = list(block)
                starts = [at for at, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
                blocks[number] = nn.Sequential(*(_conv_relu(layers[at : at + 2]) for at in starts))
        fused.narrow.to(torch.bfloat16)
        fused.head.to(torch.bfloat16)
    return fused.eval()


def _conv_relu(layers: list[nn.Module]) -> ConvReLU:
    """Convolution, batch normalisation or none, and ReLU, as one."""
    convolution, norm = layers[0], layers[1]
    assert isinstance(convolution, nn.Conv2d)
    weight = convolution.weight
    bias = torch.zeros(len(weight)) if convolution.bias is None else convolution.bias
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_var is not None and norm.running_mean is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = weight * factor[:, None, None, None]
        bias = norm.bias + (bias - norm.running_mean) * factor
    return ConvReLU(weight, bias)

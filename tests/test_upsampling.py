"""Upsampling by two: the function and the gradient of torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lungseg.upsampling import _TwiceAsLarge, twice_as_large

# The gradient of its own is for GPUs; it is the same arithmetic everywhere, so it is tried here.
ours = _TwiceAsLarge.apply


def torchs_own(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 1, 5), (1, 4, 7, 1), (3, 1, 2, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_function_and_gradient_are_those_of_torch(shape: tuple[int, ...], memory: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).contiguous(memory_format=memory)
    weights = torch.randn(*shape[:2], 2 * shape[2], 2 * shape[3], generator=generator, dtype=torch.float64)
    gradients = []
    for function in (ours, torchs_own):
        leaf = x.clone().requires_grad_()
        (function(leaf) * weights).sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(twice_as_large(x), torchs_own(x))
    torch.testing.assert_close(*gradients)


def test_the_gradient_is_the_numerical_one() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, (x,))


def test_bf16_in_channels_last_stays_so() -> None:
    x = torch.randn(2, 8, 4, 4).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    found = ours(x)
    found.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16 and torch.all((x.grad - 4).abs() < 0.05)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert x.grad.is_contiguous(memory_format=torch.channels_last)

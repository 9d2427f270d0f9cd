"""What one training step must do at least: operations counted by torch, bytes layer by layer, and the two ceilings.

A layer's bytes are what no fusion can save: in the forward pass its input is read and its output written; in the
backward pass the output's gradient is read twice (for the input's and for the weights' gradient), input and output once
(the ReLU's mask), and the input's gradient written.  Pooling, upsampling, concatenation, ReLU and loss are taken as
free.  The optimizer reads and writes weights and both moments and reads the gradients, in float32.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Layer:
    """One convolution in one pass.

    Args:
        operations: multiplications and additions.
        bytes: read and written.
    """

    operations: float
    bytes: float


def layers(net: nn.Module, batch: int, side: int, item: int = 2) -> list[Layer]:
    """Every convolution's forward and backward pass; ``batch`` slices of ``side`` pixels, ``item`` bytes a number."""
    found: list[Layer] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        assert isinstance(module, nn.Conv2d)
        taken, given = inputs[0].numel() * item, output.numel() * item
        operations = 2.0 * output.numel() * module.weight[0].numel()
        first = inputs[0].shape[1] == 1  # the image itself needs no gradient
        found.append(Layer(operations, taken + given))
        found.append(Layer(operations * (1 if first else 2), 2 * given + taken + given + (0 if first else taken)))

    hooks = [module.register_forward_hook(note) for module in net.modules() if isinstance(module, nn.Conv2d)]
    device = next(net.parameters()).device
    with torch.no_grad():
        net(torch.zeros(batch, 1, side, side, device=device))
    for hook in hooks:
        hook.remove()
    return found


def optimizer_bytes(net: nn.Module) -> float:
    """Weights and two moments read and written, gradients read, four bytes each."""
    return 7.0 * 4.0 * sum(parameter.numel() for parameter in net.parameters())


def counted_by_torch(net: nn.Module, batch: int, side: int) -> float:
    """Operations of a forward and a backward pass by torch's own counter, to hold :func:`layers` against."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(batch, 1, side, side, device=next(net.parameters()).device)).sum().backward()
    return float(counter.get_total_flops())


def matrix_rate(device: torch.device, side: int, repeats: int = 20) -> float:
    """Operations a second of a bf16 matrix product of ``side`` on random numbers."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * side**3 / median_time(device, lambda: one @ other, repeats)


def copy_rate(device: torch.device, count: int, repeats: int = 20) -> float:
    """Bytes a second, read and written together, of a copy on the device."""
    source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * count / median_time(device, lambda: target.copy_(source), repeats)


def median_time(device: torch.device, function: Any, repeats: int) -> float:
    """Seconds of one call; events on a GPU, the clock elsewhere."""
    for _ in range(3):
        function()
    times = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            started = time.perf_counter()
            function()
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def roofline_s(found: list[Layer], optimizer: float, operations_s: float, bytes_s: float) -> float:
    """Seconds that a step takes at least: each layer at whichever ceiling it meets first, one after the other."""
    return sum(max(layer.operations / operations_s, layer.bytes / bytes_s) for layer in found) + optimizer / bytes_s

"""The bare training step of `classic`, the ways to run it, and how many slices a second each takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from lungseg import upsampling
from lungseg.augment_torch import TorchAugment
from lungseg.config import recipe_named
from lungseg.dataset import LungDataset, make_sampler
from lungseg.losses import bce
from lungseg.manifest import Manifest
from lungseg.randomness import SampleRandom
from lungseg.resident import ResidentBatches
from lungseg.unet import UNet

Batch = tuple[torch.Tensor, torch.Tensor]
RATE = 1e-4  # learning rate of `classic`


@dataclass(frozen=True)
class Variant:
    """A way to run the step.

    Args:
        compiled: torch's mode of compiling the network; None leaves it as it is.
        thin: the first layer, which has one channel in, as a matrix product (:class:`ThinFirst`).
        graph: the whole step, optimizer included, is captured once as a CUDA graph and replayed.
        neighbours: upsampling by :func:`sum_of_neighbours`; the three kernels that torch compiles for it took 1.9 ms of
            a step's 6.5 (H100, 2026-11-26), a tenth of which their bytes would take.
        batch: slices a step; 0 is the plan's.
    """

    compiled: str | None = None
    thin: bool = False
    graph: bool = False
    neighbours: bool = False
    batch: int = 0


_TORCHS_OWN = upsampling._forward
# The rows that count are at the recipe's batch of 8; the larger ones show what that batch costs.
VARIANTS = {
    "eager": Variant(),
    "compiled": Variant("default"),
    "compiled, thin first layer": Variant("default", thin=True),
    "compiled, one CUDA graph": Variant("default", graph=True),
    "compiled, upsampling by neighbours": Variant("default", neighbours=True),
    "compiled, upsampling by neighbours, one CUDA graph": Variant("default", graph=True, neighbours=True),
    "compiled, reduce-overhead": Variant("reduce-overhead"),
    "compiled, batch 32": Variant("default", batch=32),
    "compiled, batch 64": Variant("default", batch=64),
}


def sum_of_neighbours(x: torch.Tensor) -> torch.Tensor:
    """What :func:`lungseg.upsampling.twice_as_large` gives, out of shifted copies, indexed by whole numbers alone."""
    x = x.permute(0, 2, 3, 1)  # [B, H, W, C], as it lies in memory
    for axis in (1, 2):
        count = x.shape[axis]
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, count - 1, 1)
        before = torch.cat([first, x.narrow(axis, 0, count - 1)], axis)
        after = torch.cat([x.narrow(axis, 1, count - 1), last], axis)
        x = torch.stack([torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)], axis + 1).flatten(axis, axis + 1)
    return x.permute(0, 3, 1, 2)


class ThinFirst(nn.Module):
    """A 3 x 3 convolution of one channel as a product of its nine shifted pictures, padded to 16, with the weights."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        padded = F.pad(image[:, 0], (1, 1, 1, 1))
        shifted = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
        shifted += [torch.zeros_like(shifted[0])] * 7
        product = F.linear(torch.stack(shifted, -1), F.pad(self.weight.flatten(1), (0, 7)), self.bias)
        return product.permute(0, 3, 1, 2)


class Step:
    """What Lightning's loop does with a batch, without Lightning: forward, loss, backward, fused Adam; bf16.

    Args:
        device: where it runs.
        variant: how.
    """

    def __init__(self, device: torch.device, variant: Variant) -> None:
        torch.manual_seed(0)
        self.device, self.variant = device, variant
        self.net = UNet().to(device, memory_format=torch.channels_last)
        upsampling._forward = sum_of_neighbours if variant.neighbours else _TORCHS_OWN
        if variant.thin:
            first = self.net.encoder[0]
            assert isinstance(first, nn.Sequential) and isinstance(first[0], nn.Conv2d)
            first[0] = ThinFirst(first[0])
        self.call: Any = self.net.levels  # what training calls; of `classic`, one tensor
        if variant.compiled is not None:
            self.call = torch.compile(self.net.levels, mode=variant.compiled, dynamic=False)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=RATE, fused=True, capturable=variant.graph)
        self._graph: Any = None

    def __call__(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._replayed(image, mask) if self.variant.graph else self._step(image, mask)

    def _step(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = bce(self.call(image.contiguous(memory_format=torch.channels_last))[0], mask)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _replayed(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self._graph is None:
            self._image, self._mask = image.clone(), mask.clone()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(4):
                    self._step(self._image, self._mask)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._loss = self._step(self._image, self._mask)
        self._image.copy_(image)
        self._mask.copy_(mask)
        self._graph.replay()
        return self._loss


def endless(device: torch.device, slices: Any, batch: int, *, compiled: bool) -> Iterator[Batch]:
    """Batches as `lungseg train` draws, gathers and augments them on the device; whole ones only.

    Args:
        device: that holds the slices.
        slices: a preprocessed folder.
        batch: slices a step.
        compiled: whether the augmentation is.
    """
    manifest = Manifest.read(slices)
    dataset = LungDataset(manifest, manifest.labelled[:12], in_memory=True, with_index=True)
    dataset.hold_on(device)
    augment, epoch = TorchAugment(recipe_named("classic").augmentation, compiled=compiled), 0
    while True:
        draws = make_sampler(dataset, seed=0, epoch=epoch).draws()
        for image, mask, index in ResidentBatches(dataset, draws, batch, device):
            if len(image) == batch:
                yield augment(image, mask, SampleRandom(0, epoch, index))
        epoch += 1


def random_batch(device: torch.device, batch: int, side: int) -> Batch:
    """A batch that looks as busy as a CT: noise, with a hundredth of tumour."""
    image = torch.randn(batch, 1, side, side, device=device) * 0.2
    return image, (image > 0.46).float()


def rate(step: Callable[..., Any], batches: Iterator[Batch], seconds: float, device: torch.device, chunk: int) -> float:
    """Slices a second, sustained; the clock is read when the device has caught up, every ``chunk`` steps."""
    settle(device)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(chunk):
            batch = next(batches)
            step(*batch)
            done += len(batch[0])
        settle(device)
    return done / (time.perf_counter() - started)


def constant(batch: Batch) -> Iterator[Batch]:
    while True:
        yield batch


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def profile(step: Callable[..., Any], batches: Iterator[Batch], steps: int, top: int = 25) -> dict[str, Any]:
    """What the GPU does in a step: milliseconds a step of the dearest kernels, of all, and by the clock."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    drawn = [next(batches) for _ in range(steps)]
    torch.cuda.synchronize()
    with torch_profile(activities=[ProfilerActivity.CUDA]) as found:
        started = time.perf_counter()
        for batch in drawn:
            step(*batch)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    ran = [row for row in found.key_averages() if row.self_device_time_total > 0]  # the others are calls on the CPU
    rows = sorted(ran, key=lambda row: -row.self_device_time_total)
    each = {row.key[:90]: [round(row.self_device_time_total / 1e3 / steps, 4), row.count // steps] for row in rows}
    return {
        "clock_ms": seconds * 1e3 / steps,
        "kernels_ms": sum(value[0] for value in each.values()),
        "launches": sum(value[1] for value in each.values()),
        "dearest_ms_and_count": dict(list(each.items())[:top]),
    }

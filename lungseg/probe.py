"""How fast this machine trains and applies a recipe's network: a few steps on noise, measured before long work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .augment import augment_named
from .config import PreprocessConfig, Recipe, to_dict
from .device import autocast, pick_device
from .fitting import isolated
from .inference import SLICES_AT_A_TIME, Segmenter
from .lightning_module import LungSegmenter
from .neighbours import Neighbours
from .randomness import SampleRandom
from .unet import parameter_count

SECONDS = 2.0  # that each of the two measurements takes at least, once it is warm
_WARM = {"cpu": 1, "mps": 3, "cuda": 10}  # steps before the clock runs: a GPU chooses its kernels in the first ones
_AT_ONCE = {"cpu": 1, "mps": 8, "cuda": 32}  # steps between two looks at the clock, for each of which a GPU is waited


@dataclass(frozen=True)
class NetworkRates:
    """What a network costs on a device.

    Args:
        device: its name.
        train_s: seconds of a training step of one batch: augmentation, forward, backward, optimizer, averaging.
        forward_s: seconds a slice, of the network in use, with all views that the recipe asks for.
        parameters: trainable values.
        gpu_bytes: memory of the GPU that was taken at most; 0 where there is none.
    """

    device: str
    train_s: float
    forward_s: float
    parameters: int
    gpu_bytes: int = 0


def probe(recipe: Recipe, device: str = "auto", *, size: int = 256, seconds: float = SECONDS) -> NetworkRates:
    """Train a fresh network of a recipe on noise for a moment, and apply it.

    Loading is left out: slices lie in memory, or on the GPU, while a run goes on.  So is what ``compile`` would change.

    Args:
        recipe: whose network, batch, augmentation and precision are taken.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        size: rows and columns of a slice.
        seconds: how long to measure each of the two, at least one step.

    Raises:
        UsageError, MachineError: there is no such device.
    """
    target = pick_device(device)
    recipe = recipe.but(compile=False)
    with isolated(target):
        if target.type == "cuda":
            torch.backends.cudnn.benchmark = True  # as in training; `isolated` puts it back
            torch.cuda.reset_peak_memory_stats(target)
        module = LungSegmenter({"recipe": to_dict(recipe)}).to(target)
        train_s = _training(module, recipe, target, size, seconds)
        if recipe.at_the_end is not None:  # which takes longer, and most memory
            end_s = _training(module, recipe.at_the_end, target, size, seconds)
            train_s += recipe.whole_slices * (end_s - train_s)
        forward_s = _forward(module, recipe, target, size, seconds)
        taken = torch.cuda.max_memory_allocated(target) if target.type == "cuda" else 0
    return NetworkRates(str(target), train_s, forward_s, parameter_count(module.net), taken)


def _training(module: LungSegmenter, recipe: Recipe, device: torch.device, size: int, seconds: float) -> float:
    engine = augment_named(recipe.augment, recipe.augmentation)
    generator = torch.Generator().manual_seed(recipe.seed)
    channels = recipe.unet.in_channels
    image = torch.rand((recipe.batch_size, channels, size, size), generator=generator)
    mask = (torch.rand((recipe.batch_size, 1, size, size), generator=generator) > 0.9).float()
    if engine is None or engine.on_device:
        image, mask = image.to(device), mask.to(device)
    index = torch.arange(recipe.batch_size, device=device)
    optimizer = module.train().configure_optimizers()
    numbers = iter(range(1 << 30))

    def step() -> None:
        batch, number = (image, mask), next(numbers)
        if engine is not None:
            batch = engine(image, mask, SampleRandom(recipe.seed, number, index))
        with autocast(device, recipe.precision):
            loss, _ = module.model_step((batch[0].to(device), batch[1].to(device), index))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if module.averaged is not None:
            module.averaged.update(module.net, number)

    return _clocked(step, device, seconds)


def _forward(module: LungSegmenter, recipe: Recipe, device: torch.device, size: int, seconds: float) -> float:
    many = SLICES_AT_A_TIME[device.type]
    settings = PreprocessConfig(size=size)
    options: dict[str, Any] = {"precision": recipe.precision, "mirror": recipe.test_mirror, "zooms": recipe.test_zooms}
    shown = Neighbours(recipe.neighbours, recipe.neighbour_mm)
    segmenter = Segmenter(module.kept.eval(), device, many, settings, {}, **options, neighbours=shown)
    slices = [np.random.default_rng(number).random((size, size)).astype(np.float16) for number in range(many)]
    return _clocked(lambda: list(segmenter.probabilities(slices)), device, seconds) / many


def _clocked(step: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of a step, on average over as many as fill the time."""
    for _ in range(_WARM[device.type]):
        step()
    _wait(device)
    started, steps = time.perf_counter(), 0
    while True:
        for _ in range(_AT_ONCE[device.type]):
            step()
        _wait(device)
        steps += _AT_ONCE[device.type]
        if (taken := time.perf_counter() - started) >= seconds:
            return taken / steps


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

"""Tiny training runs for tests: a network of a few hundred weights on slices of 32 x 32 pixels."""

from __future__ import annotations

from pathlib import Path

import torch

from lungseg.config import Recipe, UNetConfig
from lungseg.manifest import Manifest

from .processed import write_processed

TINY = Recipe(
    name="tiny",
    unet=UNetConfig(widths=(4, 8)),
    loss="dice_bce",
    learning_rate=1e-2,
    batch_size=4,
    epochs=3,
    precision="32",
)


def write_slices(root: Path, cases: int = 6) -> Manifest:
    """A preprocessed folder of ``cases`` patients with four slices each, of which two or three show tumour."""
    return write_processed(
        root, {f"lung_{number:03d}": [0, 90 + 30 * number, 200, 60 * (number % 2)] for number in range(1, cases + 1)}
    )


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network's weights and the optimizer's moments, read as a stranger would read the file."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    moments = {
        f"{parameter}.{name}": value
        for parameter, state in content["optimizer_states"][0]["state"].items()
        for name, value in state.items()
    }
    return content["state_dict"] | moments


def same_weights(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same weights and moments, bit for bit."""
    first, second = weights_of(one), weights_of(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)

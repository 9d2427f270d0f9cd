"""What the options of several subcommands are, and what their values may be."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .config import RECIPES


def add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=count(1), metavar="N", help="processes (one for each core)")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    text = "Dask scheduler whose workers do it, such as tcp://host:8786 (docs/clusters.md)"
    parser.add_argument("--cluster", metavar="ADDRESS", help=text)


def add_neighbours(parser: argparse.ArgumentParser) -> None:
    text = "slices on each side that the network sees with each slice (0)"
    parser.add_argument("--neighbours", type=count(0), metavar="N", help=text)


def add_slice_sets(parser: argparse.ArgumentParser, default: bool | None) -> None:
    text = "the stacks have gaps, so that distances, volumes and lesions are left out of every measure"
    parser.add_argument("--slice-sets", action=argparse.BooleanOptionalAction, default=default, help=text)


def add_training(
    sub: argparse.ArgumentParser, *, device: str = "auto, cpu, cuda, cuda:1 or mps (auto)", minutes: str = "the run"
) -> None:
    """Options of ``train`` and ``crossval``: the recipe, settings of it one by one, and the machine."""
    sub.add_argument(
        "--recipe",
        choices=sorted(RECIPES),
        help="all settings together (classic, the walk-through; strong is for a result)",
    )
    sub.add_argument("--loss", choices=("bce", "dice", "dice_bce"))
    sub.add_argument("--epochs", type=count(1))
    sub.add_argument("--max-minutes", type=positive, help=f"end {minutes} in time, with the schedule finished")
    sub.add_argument("--augment", choices=("torch", "imgaug", "none"))
    sub.add_argument("--batch-size", type=count(1), help="slices a step, on all devices together")
    sub.add_argument("--learning-rate", type=positive)
    add_neighbours(sub)
    sub.add_argument(
        "--inner-val",
        type=share,
        metavar="SHARE",
        help="share of the training patients that choose the checkpoint; 0 keeps the last (0.15)",
    )
    sub.add_argument(
        "--early-stop", type=count(0), metavar="N", help="end after N epochs without a better Dice; 0 never"
    )
    sub.add_argument("--precision", choices=("auto", "32", "bf16"))
    sub.add_argument("--seed", type=count(0))
    sub.add_argument("--device", default="auto", help=device)
    sub.add_argument("--loader-workers", type=count(0), default=None, help="processes that load slices")
    text = "let torch compile the training step: minutes to start, then quicker (a GPU, many epochs)"
    sub.add_argument("--compile", action=argparse.BooleanOptionalAction, help=text)


def add_inference(parser: argparse.ArgumentParser, *, threshold: float | None = 0.5, default: str = "0.5") -> None:
    text = f"probability above which a voxel is tumour ({default})"
    parser.add_argument("--threshold", type=share, default=threshold, help=text)
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which weights (best)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    parser.add_argument("--batch-size", type=count(1), help="slices at a time (4 on a CPU, 32 on a GPU)")


def count(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is under {least}")
        return value

    return whole_number


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time of 0 seconds or more")
    return value


def volume(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no volume of 0 ml or more")
    return value


def portion(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to under 1")
    return value

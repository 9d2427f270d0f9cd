"""Weights by their names, and the network that they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import UNetConfig, from_dict
from .errors import IntegrityError, LungsegError
from .unet import UNet, check_unet

NET = "net."  # what the keys of the network begin with in a checkpoint
AVERAGED = "averaged.net."  # and those of its average, where the recipe keeps one
ANEW = "Copy the checkpoint and its .sha256 file from where they came from again, or train again."


def network_of(config: dict[str, Any], path: str | Path) -> UNetConfig:
    """The network that a run's config describes.

    Raises:
        IntegrityError: it can not be meant; ``path`` is the file that says so.
    """
    try:
        unet: UNetConfig = from_dict(UNetConfig, config["recipe"]["unet"])
        check_unet(unet)
        # Without memory for its weights, which a hostile file could ask for without end.
        with torch.device("meta"):
            UNet(unet)
    except (LungsegError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError) as cause:
        what = "describes a network that this version can not build"
        found = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
        raise IntegrityError.of("unknown-network", what, found=found, file=path, mend=ANEW) from cause
    return unet


def built_net(unet: UNetConfig, weights: dict[str, Tensor], path: str | Path) -> UNet:
    """The network with these weights.

    Raises:
        IntegrityError: as :func:`fit_weights`.
    """
    with torch.device("meta"):
        check_weights(UNet(unet), weights, path)
    net = UNet(unet)
    fit_weights(net, weights, path)
    return net


def network_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights to predict with, by their names in :class:`~lungseg.unet.UNet`: the averaged ones where there are."""
    return _named(checkpoint, AVERAGED) or trained_weights(checkpoint)


def trained_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that training goes on with."""
    return _named(checkpoint, NET)


def _named(checkpoint: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }


def fit_weights(net: UNet, weights: dict[str, Tensor], path: str | Path) -> None:
    """Copy ``weights`` into ``net``.

    Raises:
        IntegrityError: as :func:`check_weights`.
    """
    check_weights(net, weights, path)
    net.load_state_dict(weights)


def check_weights(net: UNet, weights: dict[str, Tensor], path: str | Path) -> None:
    """Check that ``weights`` are those of ``net``.

    Raises:
        IntegrityError: a key is missing or unknown, or a shape or type of number differs; all are named.
    """
    own = net.state_dict()
    odd = [f"{key} missing" for key in own if key not in weights]
    odd += [f"{key} unknown" for key in weights if key not in own]
    odd += [
        f"{key} {list(weights[key].shape)} in place of {list(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    odd += [
        f"{key} {weights[key].dtype} in place of {own[key].dtype}"
        for key in own
        if key in weights and weights[key].dtype != own[key].dtype
    ]
    if odd:
        raise IntegrityError.of(
            "other-network",
            "the weights are of another network",
            expected=f"a U-Net of widths {list(net.config.widths)}, norm {net.config.norm}, skips {net.config.skip}",
            found=in_short(odd),
            file=path,
            mend="Use the checkpoint of the run that it was trained in.",
        )


def non_finite(weights: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or an infinity."""
    return [
        key for key, value in weights.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]


def refuse_non_finite(weights: dict[str, Tensor], path: Path) -> None:
    """Raise :class:`IntegrityError` where a weight is NaN or infinite."""
    broken = non_finite(weights)
    if broken:
        what = "holds weights that are not finite numbers"
        raise IntegrityError.of("non-finite-weights", what, found=in_short(broken), file=path, mend=ANEW)


def in_short(names: list[str], most: int = 6) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

"""Segment lung tumours in chest CT, and understand what was done.

Every stage is one function: ``from lungseg import preprocess, train, predict``.  Names are loaded when they are first
used, so that ``import lungseg`` is quick and does not import torch.

Research only, not a medical device, not for clinical use.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .config import RECIPES as RECIPES
    from .crossval import crossval as crossval
    from .dataset import LungDataset as LungDataset
    from .dataset import make_sampler as make_sampler
    from .dataset import sampler_weights as sampler_weights
    from .demo import demo as demo
    from .download import download as download
    from .errors import LungsegError as LungsegError
    from .evaluate import evaluate as evaluate
    from .export import export as export
    from .lightning_module import LungSegmenter as LungSegmenter
    from .manifest import Manifest as Manifest
    from .nifti import read_label as read_label
    from .nifti import read_scan as read_scan
    from .predict import predict as predict
    from .preprocess import preprocess as preprocess
    from .reproduce import reproduce as reproduce
    from .sample import write_sample as write_sample
    from .score import score as score
    from .shard import shard as shard
    from .splits import k_fold as k_fold
    from .train import train as train
    from .unet import UNet as UNet
    from .verify import verify as verify
    from .visualize import animate as animate

_HOME = {
    "LungDataset": "dataset",
    "LungSegmenter": "lightning_module",
    "LungsegError": "errors",
    "Manifest": "manifest",
    "RECIPES": "config",
    "UNet": "unet",
    "animate": "visualize",
    "crossval": "crossval",
    "demo": "demo",
    "download": "download",
    "evaluate": "evaluate",
    "export": "export",
    "k_fold": "splits",
    "make_sampler": "dataset",
    "predict": "predict",
    "preprocess": "preprocess",
    "read_label": "nifti",
    "read_scan": "nifti",
    "sampler_weights": "dataset",
    "reproduce": "reproduce",
    "score": "score",
    "shard": "shard",
    "train": "train",
    "verify": "verify",
    "write_sample": "sample",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """A stage's function has the name of its module; ``lungseg.train`` is always the function.

    The import system binds a submodule to its package when it is first imported, which would put the module in the
    function's place.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

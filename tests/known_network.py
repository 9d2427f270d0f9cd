"""A run whose network is known: it calls tumour what is brighter than a given HU, so each mask can be foretold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lungseg import run_folder
from lungseg.checkpoint import BEST, FOLDER, LAST, save_checkpoint
from lungseg.config import HU_MAX, Recipe, UNetConfig, to_dict
from lungseg.files import make_folder
from lungseg.manifest import Manifest
from lungseg.splits import make_split
from lungseg.unet import UNet
from lungseg.weights import NET

STEEPNESS = 1e4  # logits a unit of HU / 3071: probabilities are 0 or 1 a few HU from the threshold


def threshold_net(hu: float) -> UNet:
    """A U-Net without a pooling whose logit is ``STEEPNESS * (image - hu / 3071)`` wherever the image is above 0."""
    net = UNet(UNetConfig(widths=(2,)))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.encoder[0][0].weight[0, 0, 1, 1] = 1.0
        net.encoder[0][2].weight[0, 0, 1, 1] = 1.0
        net.head.weight[0, 0, 0, 0] = STEEPNESS
        net.head.bias[0] = -STEEPNESS * hu / HU_MAX
    return net


def write_run(run: Path, manifest: Manifest, hu: float = 500.0, held_out: Sequence[str] | None = None) -> Path:
    """A run on ``manifest`` with that network; its fold holds out ``held_out``, or the first of three folds."""
    recipe = Recipe(name="known", unet=UNetConfig(widths=(2,)))
    splits = None
    if held_out is not None:
        train = sorted(set(manifest.labelled) - set(held_out))
        splits = run.parent / "splits_for_the_test.json"
        splits.write_text(f'[{{"train": {list(train)}, "val": {list(held_out)}}}]'.replace("'", '"'))
    split = make_split(manifest.labelled, n_folds=3, inner_val=0.0, splits=splits)
    config = run_folder.describe(recipe, split, manifest, max_minutes=0, limit_batches=0, deterministic=False)
    make_folder(run / FOLDER)
    run_folder.begin(run, config, split, manifest.root, {"precision": "32"})
    weights = {NET + name: value for name, value in threshold_net(hu).state_dict().items()}
    for name in (BEST, LAST):
        save_checkpoint({"state_dict": weights, "hyper_parameters": {"config": config}}, run / FOLDER / name)
    assert to_dict(manifest.config) == config["data"]["settings"]
    return run

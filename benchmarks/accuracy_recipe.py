"""The published recipe on one fold of the slice sets: its own scripts as they are, then counts of each patient.

Its `preprocess.py` lays the tree out (float64, a folder a patient, a counter for a name), its `train.py` trains and
evaluates.  Then its last checkpoint is read again, the held-out slices are predicted one by one as it does, and pixels
with p > 0.5 are counted.  Dice by patient must be what its own `result.json` says.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import accuracy_score as score
import numpy as np
import torch

EPOCHS = 30
# Dice of its own evaluation and ours may differ by pixels at p = 0.5, where another convolution rounds otherwise.
AGREE = 1e-3


def run(
    tree: Path, baseline: Path, work: Path, fold: int, *, seed: int, device: str, workers: int, epochs: int, steps: int
) -> score.FoldRecord:
    """Train and score one fold.

    Args:
        tree: the slice sets in Task06_Lung's layout, with ``splits_final.json``.
        baseline: folder with the recipe's scripts.
        work: folder for what it writes: 1 MB a slice, 93 MB an epoch.
        fold: which fold is held out.
        seed: `train.py --seed`; sampler and transform draw from it.
        device: of torch.
        workers: of its loader.
        epochs: its 30.
        steps: at most so many an epoch, 0 for all: for a proof on a CPU only.
    """
    if "data" in work.resolve().parts:
        raise SystemExit(f"{work}: the recipe mixes up its folders below one that is called data")
    val = score.held_out(tree, fold)[1]
    data, out = work / f"recipe-data-{fold}", work / f"recipe-run-{fold}-{seed}"
    started = time.perf_counter()
    _command(baseline, "preprocess.py", tree, data, "--sort", "--skip", 0, "--val-cases", *val)
    prepared = time.perf_counter()
    limits = ("--max-steps", steps) if steps else ()
    _command(baseline, "train.py", data, out, "--epochs", epochs, "--batch", 8, "--workers", workers, "--seed", seed,
             "--device", device, *limits)  # fmt: skip
    trained = time.perf_counter()
    names = json.loads((data / "order.json").read_text())
    cases = score.by_patient(_predicted(data / "val", patients_of(names), network(baseline, out, epochs - 1), device))
    predicted = time.perf_counter()
    score.check_patients(cases, val)
    result = json.loads((out / "result.json").read_text())
    agreement = check_its_own_dice(cases, result["extra_hard_dice_per_subject"], patients_of(names))
    return score.FoldRecord(
        "recipe", fold, seed, tuple(cases),
        # train.py evaluates too, so predicting again is no cost of the recipe's.
        {"prepare": prepared - started, "train": trained - prepared, "predict": 0.0, "total": trained - started,
         "scoring": predicted - trained},
        {},
        {"epochs": epochs, "batch_size": 8, "workers": workers, "max_steps": steps,
         "weights": f"epoch={epochs - 1}.ckpt",
         "mask": "p > 0.5", "soft_dice_pooled": result["val_soft_dice_pooled"], "label_scan_s": result["label_scan_s"],
         "epoch_s": [round(epoch["train_s"] + epoch["val_s"], 2) for epoch in result["epochs"]],
         "largest_difference_from_its_own_dice": agreement},
    )  # fmt: skip


def patients_of(order: Mapping[str, Any]) -> dict[str, str]:
    """Which patient each counter of the recipe's folders is, from its `order.json`."""
    return {str(counter): name.split(".")[0] for counter, name in enumerate(order["order"])}


def check_its_own_dice(
    cases: Sequence[score.CaseCounts], its_own: Mapping[str, float], patients: Mapping[str, str]
) -> float:
    """Largest difference between our Dice and the recipe's own, by patient.

    Raises:
        SystemExit: it is above rounding at the threshold, so something else was scored.
    """
    theirs = {patients[counter]: dice for counter, dice in its_own.items()}
    apart = max(abs(case.dice - theirs[case.case]) for case in cases)
    if not apart <= AGREE:
        raise SystemExit(f"Dice of the recipe's evaluation and ours differ by {apart:.4f}")
    return float(apart)


def network(baseline: Path, out: Path, epoch: int) -> torch.nn.Module:
    """The recipe's network with the weights of an epoch's checkpoint."""
    spec = importlib.util.spec_from_file_location("recipe_model", baseline / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net: torch.nn.Module = module.UNet()
    net.load_state_dict(torch.load(out / f"epoch={epoch}.ckpt", map_location="cpu", weights_only=True)["model"])
    return net


@torch.no_grad()
def _predicted(
    val: Path, patients: Mapping[str, str], net: torch.nn.Module, device: str
) -> Iterator[tuple[str, tuple[int, int, int]]]:
    net = net.to(device).eval()
    for image in sorted(val.glob("*/data/*.npy")):
        subject = image.parents[1]
        x = torch.from_numpy(np.load(image)).float()[None, None].to(device)
        mask = (torch.sigmoid(net(x)) > 0.5)[0, 0].cpu().numpy()
        yield patients[subject.name], score.counts(np.load(subject / "masks" / image.name), mask)


def _command(baseline: Path, script: str, *words: object) -> None:
    subprocess.run([sys.executable, str(baseline / script), *map(str, words)], check=True, stdout=subprocess.DEVNULL)

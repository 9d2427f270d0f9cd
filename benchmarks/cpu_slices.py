"""Sampling, loading and augmenting slices, against the recipe's dataset on the same scans; one thread."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from cpu_preprocess import Stage
from measure import in_turns
from trees import copies

SLICES = 15_767  # of Task06_Lung's 63 labelled scans after the first 30 of each
BATCH = 8


def recipe_dataset(baseline: Path) -> ModuleType:
    """The recipe's ``dataset.py``."""
    sys.path.insert(0, str(baseline))
    try:
        return importlib.import_module("dataset")
    finally:
        sys.path.remove(str(baseline))


def prepared(volumes: Path, baseline: Path, work: Path) -> tuple[Path, Path]:
    """Slices of the two scans, by us and by the recipe."""
    stage = Stage(copies(volumes, work / "tree2", 2), baseline, work)
    stage.ours(None)
    stage.recipe()
    ours, recipe = work / "slices", work / "recipe_slices"
    for source, target in ((work / "ours", ours), (work / "recipe", recipe)):
        shutil.rmtree(target, ignore_errors=True)
        source.rename(target)
    return ours, recipe


def weights(processed: tuple[Path, Path], baseline: Path, rounds: int, labelled: int = 64) -> dict[str, Any]:
    """CPU time of the sampler's weights for 15,767 slices; the recipe's pass is timed on some and multiplied."""
    from lungseg.dataset import sampler_weights

    generator = np.random.default_rng(0)
    pixels = np.where(generator.random(SLICES) < 0.1, generator.integers(1, 500, SLICES), 0)
    times = []
    for _ in range(20 * rounds):
        started = time.process_time()
        sampler_weights(pixels)
        times.append(time.process_time() - started)
    module = recipe_dataset(baseline)
    dataset = module.LungDataset(processed[1] / "train", module.recipe_augmenter())
    started = time.process_time()
    [int(np.any(dataset[index][1])) for index in np.linspace(0, len(dataset) - 1, labelled).astype(int)]
    recipe_s = (time.process_time() - started) / labelled * SLICES
    return {"slices": SLICES, "ours_ms": round(float(np.median(times)) * 1e3, 3), "recipe_s": round(recipe_s, 1)}


def load_and_augment(processed: tuple[Path, Path], baseline: Path, rounds: int, batches: int = 8) -> dict[str, Any]:
    """A slice with its mask from its files, checked against its hash, and transformed; per slice, on one core."""
    import cv2
    import torch

    from lungseg.augment import augment_named
    from lungseg.dataset import LungDataset
    from lungseg.manifest import Manifest

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    manifest = Manifest.read(processed[0])
    ours = LungDataset(manifest, manifest.labelled, augment=augment_named("torch"))
    module = recipe_dataset(baseline)
    recipe = module.LungDataset(processed[1] / "train", module.recipe_augmenter())
    plain = LungDataset(manifest, manifest.labelled)
    bare = module.LungDataset(processed[1] / "train")
    draws = np.random.default_rng(0).integers(0, min(len(ours), len(recipe)), (batches, BATCH)).tolist()

    def batched(dataset: Any) -> None:
        for batch in draws:
            dataset.batch(batch)

    def one_by_one(dataset: Any) -> None:
        for batch in draws:
            torch.stack([torch.from_numpy(dataset[index][0]).float() for index in batch])

    batched(ours)
    both = in_turns(lambda: batched(ours), lambda: one_by_one(recipe), rounds).as_dict()
    load = in_turns(lambda: batched(plain), lambda: one_by_one(bare), rounds).as_dict()
    for found in (both, load):
        for name in ("ours", "other"):
            found[f"{name}_ms_a_slice"] = round(found[f"{name}_cpu_s"] / (batches * BATCH) * 1e3, 3)
    return {"load_and_augment": both, "load": load}

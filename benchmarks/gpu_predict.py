"""Prediction of a phantom, file to file, and where its time goes."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from lungseg import inference

STAGES = {
    "lungseg.predict.Segmenter.load": "load and check the weights",
    "lungseg.predict.read_scan": "read the scan, all checks",
    "lungseg.predict.slice_image": "make slices",
    "lungseg.inference.forward_of": "network",
    "lungseg.inference.MaskVolume.put": "back to the scan's grid",
    "lungseg.predict.tumours": "connected tumours",
    "lungseg.predict.write_mask": "write the mask",
}


def prediction(device: torch.device, tree: Path, run: Path, work: Path, rounds: int = 5) -> dict[str, Any]:
    """Seconds of ``lungseg.predict`` on one scan after imports; the first call, which warms the device up, is apart.

    Args:
        device: where the network runs.
        tree: holds the scan.
        run: a trained run; where there is none, weights as they are drawn do.
        work: a folder to write in.
        rounds: calls.
    """
    from lungseg.predict import predict

    scan = next((tree / "imagesTr").glob("*.nii.gz"))
    weights = run if (run / "config.json").is_file() else _untrained(work)
    times, tables = [], []
    for _number in range(rounds):
        for path in work.glob("mask.*"):
            path.unlink()
        table: dict[str, float] = {}
        started = time.perf_counter()
        with ExitStack() as stack:
            for name, stage in STAGES.items():
                stack.enter_context(_timed(name, stage, table, device))
            predict(weights, scan, work / "mask.nii.gz", device=device.type)
        times.append(time.perf_counter() - started)
        tables.append(table)
    later = tables[1:]
    stages = {stage: statistics.median(table.get(stage, 0.0) for table in later) for stage in STAGES.values()}
    total = statistics.median(times[1:])
    return {"first_s": times[0], "total_s": total, "stages_s": {**stages, "the rest": total - sum(stages.values())}}


def _untrained(work: Path) -> Path:
    from lungseg.train import train

    least = {"epochs": 1, "limit_batches": 1, "inner_val": 0.0, "n_folds": 4}
    return train(work / "slices", work / "untrained", device="cpu", **least).run


def _timed(name: str, stage: str, table: dict[str, float], device: torch.device) -> Any:
    """Replace a function by itself with a clock around it."""
    owner_name, _, attribute = name.rpartition(".")
    try:
        owner: Any = importlib.import_module(owner_name)
    except ModuleNotFoundError:
        module, _, kind = owner_name.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    function = getattr(owner, attribute)

    def clocked(call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            value = call(*args, **options)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            table[stage] = table.get(stage, 0.0) + time.perf_counter() - started
            return value

        return timed

    if function is inference.forward_of:
        return mock.patch.object(owner, attribute, lambda *args, **options: clocked(function(*args, **options)))
    return mock.patch.object(owner, attribute, clocked(function))

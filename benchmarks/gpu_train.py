"""Whole programs on the GPU: `lungseg.train`, the recipe's train.py, and the tests that need a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from gpu_step import RATE, constant, random_batch, rate

from lungseg.config import recipe_named
from lungseg.unet import UNet

HERE = Path(__file__).resolve().parent
TESTS = ("test_randomness", "test_augment", "test_resident", "test_train")


def training(device: torch.device, work: Path, batch: int, seconds: float) -> dict[str, Any]:
    """``lungseg.train`` as users call it, `--compile` and no validation, from its own record.

    The first epoch, which compiles and warms up, is left out, and the last, which the time limit cuts, as long as there
    are others.  Where compiling fails it is said, and the run made without.
    """
    from lungseg.callbacks import read_metrics
    from lungseg.train import train

    found: dict[str, Any] = {}
    for name in ("run", "run_uncompiled"):
        quick = name == "run" and device.type == "cuda"
        chosen = recipe_named("classic").but(batch_size=batch, epochs=1000, inner_val=0.0, compile=quick)
        started = time.perf_counter()
        try:
            result = train(
                work / "many", work / name, recipe=chosen, max_minutes=seconds / 60, device=device.type, n_folds=4
            )
        except Exception:
            found["compile_failed"] = traceback.format_exc()[-1500:]
            continue
        whole_s = time.perf_counter() - started
        rows = read_metrics(result.metrics)
        full = rows[1:-1] or rows[1:] or rows
        slices = json.loads((work / name / "config.json").read_text())["data"]["slices"]
        in_epochs = sum(row["seconds"] for row in full)
        between = (60 * result.minutes - sum(row["seconds"] for row in rows)) / max(len(rows) - 1, 1)
        return {
            **found,
            "compiled": quick,
            "run": name,
            "slices_an_epoch": slices,
            "epochs": len(full),
            "seconds": in_epochs,
            "first_epoch_s": rows[0]["seconds"],
            "between_epochs_s": between,
            "whole_s": whole_s,
            "slices_s": len(full) * slices / in_epochs if full else None,
        }
    raise RuntimeError(found["compile_failed"])


def recipe(device: torch.device, work: Path, side: int, seconds: float, baseline: Path | None) -> dict[str, Any]:
    """The recipe's loop (float32, batch 8, ``float(loss)`` each step) with data for free, and its own train.py."""
    torch.manual_seed(0)
    net = UNet().to(device)
    optimizer, loss_of = torch.optim.Adam(net.parameters(), lr=RATE), torch.nn.BCEWithLogitsLoss()
    batch = random_batch(device, 8, side)

    def step(image: torch.Tensor, mask: torch.Tensor) -> float:
        loss = loss_of(net(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False  # as the recipe leaves it
    for _ in range(3):
        step(*batch)
    found: dict[str, Any] = {"data_for_free_slices_s": rate(step, constant(batch), seconds, device, 1)}
    torch.backends.cudnn.benchmark = benchmark
    if baseline is None:
        return {**found, "own_script": "not run: no --baseline"}
    # A slice of 256 pixels is seconds of work for a CPU, and the recipe knows no other size.
    epochs, steps, batch_size, workers = (2, 150, 8, 8) if device.type == "cuda" else (1, 1, 1, 1)
    words = [sys.executable, HERE / "recipe_train.py", baseline, work / "recipe", work / "recipe_run"]
    words += ["--epochs", epochs, "--batch", batch_size, "--workers", workers, "--max-steps", steps, "--max-val", 1]
    words += ["--device", device.type]
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if ran.returncode:
        return {**found, "own_script": ran.stderr[-1500:]}
    trained = json.loads((work / "recipe_run/result.json").read_text())["epochs"]
    rates = [epoch["steps"] * batch_size / max(epoch["train_s"], 0.01) for epoch in trained]
    return {**found, "workers": workers, "epochs_slices_s": rates, "slices_s": max(rates)}


def start_tests(log: Path) -> subprocess.Popen[bytes]:
    """The tests that are skipped where there is no GPU, in a process of their own; see :func:`tests`."""
    files = [str(HERE.parent / f"tests/{name}.py") for name in TESTS]
    words = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-k", "gpu", *files]
    with open(log, "wb") as out:
        return subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, cwd=HERE.parent)


def tests(process: subprocess.Popen[bytes], log: Path, limit_s: float) -> dict[str, Any]:
    """What they said, a word for each test; among them, that a stopped run ends in the same bytes on the GPU."""
    try:
        code: int | None = process.wait(max(limit_s, 1.0))
    except subprocess.TimeoutExpired:
        process.kill()
        code = None
    text = log.read_text(errors="replace")
    said = dict(reversed(line.split(" ")[:2]) for line in text.splitlines() if line.startswith(("PASSED ", "FAILED ")))
    found = {name.rpartition("::")[2]: word.lower() for name, word in said.items()}
    return {"exit_code": code, "tests": found, **({} if code == 0 else {"output": text[-3000:]})}

"""Runs that are killed at any moment and resumed: the same weights, byte for byte (rows 36 and 37)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lungseg.checkpoint import load_checkpoint
from lungseg.config import to_dict
from lungseg.train import train

from .training import TINY, same_weights, write_slices

RECIPE = TINY.but(epochs=2, schedule="one_cycle", optimizer="adamw")
# A process that has loaded torch but run nothing, which forks for each run to be killed: a fork costs no loading.
KILLER = """
import json, os, signal, sys
from pathlib import Path
import torch
import lungseg.files
from lungseg.callbacks import EndOfRun
from lungseg.config import recipe_from_dict
from lungseg.train import train

def after(count):
    calls = iter(range(1, 100000))
    return lambda: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == count else None

torch.set_num_threads(1)
for job in json.loads(sys.argv[1]):
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    kill = after(job["count"])
    if job["at"] == "batch":
        original = EndOfRun.on_train_batch_end
        EndOfRun.on_train_batch_end = lambda *given: (original(*given), kill())
    else:
        replace = os.replace
        os.replace = lambda *given: (kill(), replace(*given))
    try:
        recipe = recipe_from_dict(job["recipe"])
        train(job["processed"], job["run"], recipe=recipe, workers=job["workers"], in_memory=False)
    finally:
        os._exit(7)
"""
# Files move to their final names in this order: splits, config; metrics; for best.ckpt and for last.ckpt the digests of
# old and new, the checkpoint, the digest of the new; and so on for the next epoch, in which best need not be better.
MOVES = (1, 2, 3, 5, 8, 9, 12, 13)
BATCHES = (1, 3, 5)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preprocessed folder, uninterrupted runs beside it, and runs that were killed."""
    folder = tmp_path_factory.mktemp("killed")
    write_slices(folder / "processed")
    jobs = [{"at": "move", "count": count, "workers": 0, "augment": "torch"} for count in MOVES]
    jobs += [{"at": "batch", "count": count, "workers": 0, "augment": "torch"} for count in BATCHES]
    jobs += [{"at": "batch", "count": 5, "workers": 2, "augment": name} for name in ("torch", "imgaug")]
    for job in jobs:
        job |= {
            "recipe": to_dict(RECIPE.but(augment=job["augment"])),
            "processed": str(folder / "processed"),
            "run": str(folder / name_of(job["at"], job["count"], job["workers"], job["augment"])),
        }
    command = [sys.executable, "-c", KILLER, json.dumps(jobs)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.split() == [str(-signal.SIGKILL)] * len(jobs), ended.stderr[-2000:]
    for engine in ("torch", "imgaug"):
        train(folder / "processed", folder / f"whole-{engine}", recipe=RECIPE.but(augment=engine), workers=0)
    return folder


def name_of(at: str, count: int, workers: int, augment: str) -> str:
    return f"{at}-{count}-{workers}-{augment}"


def resumed(folder: Path, run: Path) -> None:
    """Check what the kill left, go on, and compare with the run that was never killed."""
    if (run / "config.json").exists():
        config = json.loads((run / "config.json").read_text())
        assert config["finished"] is None
    for checkpoint in run.glob("checkpoints/[bl]*.ckpt"):
        load_checkpoint(checkpoint)
    whole = folder / f"whole-{run.name.rpartition('-')[2]}"
    result = train(folder / "processed", run, recipe=RECIPE.but(augment=whole.name.partition("-")[2]), resume=True)
    assert same_weights(result.last, whole / "checkpoints/last.ckpt")
    assert same_weights(result.best, whole / "checkpoints/best.ckpt")
    assert [row.rpartition(",")[0] for row in (run / "metrics.csv").read_text().split()] == [
        row.rpartition(",")[0] for row in (whole / "metrics.csv").read_text().split()
    ]
    assert not list(run.rglob(".lungseg-partial-*"))


@pytest.mark.parametrize("count", MOVES)
def test_rows_36_and_37_killed_while_a_file_is_written(folder: Path, count: int) -> None:
    resumed(folder, folder / name_of("move", count, 0, "torch"))


@pytest.mark.parametrize("count", BATCHES)
def test_row_36_killed_within_an_epoch(folder: Path, count: int) -> None:
    resumed(folder, folder / name_of("batch", count, 0, "torch"))


@pytest.mark.parametrize("augment", ["torch", "imgaug"])
def test_row_36_killed_with_two_workers(folder: Path, augment: str) -> None:
    resumed(folder, folder / name_of("batch", 5, 2, augment))

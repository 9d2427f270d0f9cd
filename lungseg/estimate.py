"""What a reproduction will cost, said before it starts: time, disk and memory, from measured rates.

The network's part, most of the time, is measured on the machine itself (:mod:`lungseg.probe`).  The rest grows with the
voxels of the scans, and is worked out from seconds of one processor core that were measured on two whole CTs
(``benchmarks/rates.py``); another processor may take half or twice as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .config import Recipe
from .probe import NetworkRates
from .workload import Workload

# Seconds of one core for a million voxels of a scan, by benchmarks/rates.py (its figures are in results/rates.json, and
# tests/test_estimate.py compares).  A slice of 512 x 512 has 0.26 million.
VERIFY_S, PREPROCESS_S, SCORE_S, PREDICT_S = 0.0078, 0.0086, 0.0328, 0.0164
LINE_BYTES_S = 10e6  # of the network, which nobody can know: only what it would take is said
# Memory, bytes: of a process with torch and Lightning; of one that only reads scans; and a voxel of the largest scan.
_TRAINING, _READING = 1 << 30, 150 << 20
_READ_BYTES, _SCORE_BYTES = 3, 8
_SLICE_BYTES, _MASK_BYTES = 2, 1  # of a pixel of a preprocessed slice and of its mask
_CHECKPOINTS = 2 * 4 * 4  # best and last, each weight with two moments and perhaps an average, float32
_CASE_BYTES = 3 << 20  # of a labelled patient: map of probabilities, pictures of two pages, record


@dataclass(frozen=True)
class Step:
    """A stage.

    Args:
        what: in words.
        seconds: that it will take; None where nobody can know.
        note: what else there is to say; may be empty.
    """

    what: str
    seconds: float | None
    note: str = ""

    def __str__(self) -> str:
        time = "?" if self.seconds is None else duration(self.seconds)
        return f"{time:>12}  {self.what}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class Estimate:
    """Time, disk and memory of a whole reproduction.

    Args:
        steps: in order.
        disk_bytes: that are taken at the same time, at most.
        memory_bytes: likewise.
        gpu_bytes: of the GPU; 0 where there is none.
        notes: what was assumed.
    """

    steps: tuple[Step, ...]
    disk_bytes: int
    memory_bytes: int
    gpu_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all steps whose time can be known."""
        return sum(step.seconds or 0.0 for step in self.steps)

    def __str__(self) -> str:
        unknown = " and what the line takes" if any(step.seconds is None for step in self.steps) else ""
        gpu = f", {self.gpu_bytes / 1e9:.1f} GB of the GPU's" if self.gpu_bytes else ""
        lines = [f"{number}. {step}" for number, step in enumerate(self.steps, start=1)]
        lines.append(
            f"about {duration(self.seconds)}{unknown}; up to {self.disk_bytes / 1e9:.1f} GB of disk and "
            f"{self.memory_bytes / 1e9:.1f} GB of memory{gpu}"
        )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def estimate(
    work: Workload,
    recipe: Recipe,
    rates: NetworkRates,
    *,
    n_folds: int,
    folds: int,
    size: int,
    trained: int = 0,
    max_minutes: float | None = None,
    workers: int = 1,
    devices: int = 1,
) -> Estimate:
    """Work out what a cross-validation and the prediction of the test scans cost.

    Args:
        work: how much there is.
        recipe: how each fold is trained.
        rates: of the recipe's network on this machine.
        n_folds: folds that the patients are parted into.
        folds: how many of them are wanted.
        size: rows and columns of a slice.
        trained: how many of these are trained already.
        max_minutes: time limit of each fold's training; None or 0 is none.
        workers: processes that read scans.
        devices: that train at the same time, a fold each.
    """
    n_folds = min(n_folds, max(2, work.labelled.scans))  # fewer patients than folds: each is one
    folds = min(folds, n_folds)
    share = (n_folds - 1) / n_folds * (1.0 - recipe.inner_val)
    kept = math.ceil(work.labelled.slices * share)
    steps = recipe.epochs * math.ceil(kept / recipe.batch_size)
    one = min(steps * rates.train_s, 60 * max_minutes if max_minutes else math.inf)
    scored = work.labelled.slices * folds / n_folds
    voxels = {"all": (work.labelled.voxels + work.test.voxels) / 1e6, "test": work.test.voxels / 1e6}
    scoring = scored * rates.forward_s + work.labelled.voxels / 1e6 * folds / n_folds * SCORE_S
    readers = max(1, min(workers, work.labelled.scans + work.test.scans))
    left = max(0, folds - trained)
    rounds = math.ceil(left / max(1, devices))
    listed = [
        *_fetching(work),
        Step("verify every scan", voxels["all"] * VERIFY_S / readers),
        Step("preprocess", voxels["all"] * PREPROCESS_S / readers),
        Step("train", rounds * one, _training_words(recipe, left, one, rates, limited=one < steps * rates.train_s)),
        Step("score and report every patient, held out", scoring),
    ]
    if work.test.scans:
        together = work.test.slices * folds * rates.forward_s + voxels["test"] * PREDICT_S
        listed.append(Step(f"predict {work.test.scans} test scans with all folds together", together))
    slices = size * size * (
        work.labelled.slices * (_SLICE_BYTES + _MASK_BYTES) + work.test.slices * _SLICE_BYTES
    )  # fmt: skip
    runs = folds * rates.parameters * _CHECKPOINTS + work.labelled.scans * _CASE_BYTES
    largest = max(work.labelled.largest, work.test.largest)
    in_memory = kept * size * size * (_SLICE_BYTES + _MASK_BYTES)
    return Estimate(
        tuple(listed),
        disk_bytes=max(2 * work.archive_bytes, work.archive_bytes + slices + runs),
        memory_bytes=max(
            readers * (_READING + _READ_BYTES * largest), _TRAINING + in_memory, _TRAINING + _SCORE_BYTES * largest
        ),
        gpu_bytes=rates.gpu_bytes + in_memory if rates.gpu_bytes else 0,
        notes=(f"taken as given: {work.assumed}",) if work.assumed else (),
    )


def _fetching(work: Workload) -> list[Step]:
    if not work.archive_bytes:
        return []
    at = duration(work.archive_bytes / LINE_BYTES_S)
    note = f"{at} at {LINE_BYTES_S / 1e6:g} MB a second"
    return [Step(f"download and unpack {work.archive_bytes / 1e9:.2f} GB", None, note)]


def _training_words(recipe: Recipe, folds: int, one: float, rates: NetworkRates, *, limited: bool) -> str:
    if not folds:
        return "done"
    how = "the limit of time" if limited else f"{recipe.epochs} epoch{'s' * (recipe.epochs != 1)}"
    step_ms = 1000 * rates.train_s
    speed = f"{step_ms:.{0 if step_ms > 20 else 1}f} ms a step of {recipe.batch_size}, measured here on {rates.device}"
    seen = f" with neighbours {recipe.neighbours}" if recipe.neighbours else ""
    return f"{folds} x {duration(one)}, {how} of recipe {recipe.name}{seen}; {speed}"


def duration(seconds: float) -> str:
    """``40 seconds``, ``12 minutes`` or ``3.5 hours``."""
    if seconds < 90:
        return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"

"""Preprocessing against the recipe, against only inflating the same files, and against itself at other sizes."""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from measure import LUNGSEG, Seconds, Versus, bytes_below, command, in_turns, memory_of
from trees import copies

HERE = Path(__file__).resolve().parent
SIZES = (2, 4, 8, 16, 32)


class Stage:
    """Whole commands over one tree; each run writes to an empty folder, and emptying it is not timed.

    Args:
        tree: what is preprocessed.
        baseline: folder of the recipe.
        work: scratch folder.
    """

    def __init__(self, tree: Path, baseline: Path, work: Path) -> None:
        self.tree, self.baseline, self.work = tree, baseline, work

    def ours(self, workers: int | None) -> Seconds:
        """``lungseg preprocess``; returns seconds."""
        return command([*self.command(workers), *self._out("ours")])

    def recipe(self) -> Seconds:
        """The recipe's script, which knows one process only; returns seconds."""
        script = self.baseline / "preprocess.py"
        return command([sys.executable, script, self.tree, *self._out("recipe"), "--sort", "--n-val", "1"])

    def inflate(self, workers: int) -> Seconds:
        """Only inflate the files; returns seconds."""
        return command([sys.executable, HERE / "inflate.py", self.tree, str(workers)])

    def command(self, workers: int | None) -> list[str | Path]:
        given = [] if workers is None else ["--workers", str(workers)]
        return [LUNGSEG, "preprocess", *given, self.tree]

    def _out(self, name: str) -> list[Path]:
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return [folder]

    def clear(self) -> None:
        for name in ("ours", "recipe"):
            shutil.rmtree(self.work / name, ignore_errors=True)


def many(volumes: Path, baseline: Path, work: Path, rounds: int) -> dict[str, Any]:
    """24 scans, the two of ``volumes`` 12 times each: with 1 and 2 workers against the recipe and against inflating."""
    stage = Stage(copies(volumes, work / "tree24", 24), baseline, work)
    times: dict[str, list[Seconds]] = {}
    stage.inflate(1)  # the files are in the page cache for all of them
    runs = {
        "recipe": stage.recipe,
        "ours_1": lambda: stage.ours(1),
        "ours_2": lambda: stage.ours(2),
        "inflate_1": lambda: stage.inflate(1),
        "inflate_2": lambda: stage.inflate(2),
    }
    for number in range(rounds):
        for name, run in list(runs.items())[:: 1 if number % 2 else -1]:
            times.setdefault(name, []).append(run())
            stage.clear()

    def versus(ours: str, other: str) -> dict[str, Any]:
        return Versus(tuple(times[ours]), tuple(times[other])).as_dict()

    return {
        "scans": 24,
        "recipe": {str(workers): versus(f"ours_{workers}", "recipe") for workers in (1, 2)},
        "inflate": {str(workers): versus(f"inflate_{workers}", f"ours_{workers}") for workers in (1, 2)},
    }


def two(volumes: Path, baseline: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Just the two scans, whole commands with our defaults: what it costs to start counts."""
    stage = Stage(copies(volumes, work / "tree2", 2), baseline, work)
    found = in_turns(lambda: stage.ours(None), stage.recipe, rounds).as_dict()
    written = {name: bytes_below(work / name) for name in ("ours", "recipe")}
    found["bytes_written"] = written
    found["bytes_share"] = round(written["ours"] / written["recipe"], 4)
    stage.clear()
    return found


def memory(volumes: Path, baseline: Path, work: Path) -> dict[str, Any]:
    """The most that a worker holds on a scan of 512 x 512 x 304, and the recipe on the same."""
    stage = Stage(copies(volumes, work / "tree1", 1), baseline, work)
    ours = memory_of([*stage.command(1), *stage._out("ours")])
    script = baseline / "preprocess.py"
    recipe = memory_of([sys.executable, script, stage.tree, *stage._out("recipe"), "--n-val", "0"])
    stage.clear()
    return {"ours": ours.as_dict(), "recipe": recipe.as_dict()}


def growth(volumes: Path, baseline: Path, work: Path, rounds: int) -> dict[str, Any]:
    """CPU time against the number of scans, one worker: a straight line, and whether there is any curve in it."""
    times: dict[int, list[Seconds]] = {size: [] for size in SIZES}
    held: dict[int, float] = {}
    stages = {size: Stage(copies(volumes, work / f"tree{size}", size), baseline, work) for size in SIZES}
    for number in range(rounds):
        for size in SIZES[:: 1 if number % 2 else -1]:
            times[size].append(stages[size].ours(1))
            stages[size].clear()
    for size in (SIZES[0], SIZES[-1]):
        held[size] = memory_of([*stages[size].command(1), *stages[size]._out("ours")], every_s=0.1).process_mb
        stages[size].clear()
    return {
        "scans": list(SIZES),
        "seconds": [[round(value, 3) for value in times[size]] for size in SIZES],
        "cpu_seconds": [[round(value.cpu, 3) for value in times[size]] for size in SIZES],
        "median_cpu_s": [round(statistics.median(value.cpu for value in times[size]), 3) for size in SIZES],
        **straightness({size: [value.cpu for value in found] for size, found in times.items()}),
        "memory_mb": {str(size): round(value, 1) for size, value in held.items()},
    }


def straightness(times: dict[int, list[float]]) -> dict[str, Any]:
    """The slope of seconds over scans, and the share of the largest run that a square term adds; 95 % intervals.

    Least squares weighted by size, as longer runs vary more; intervals by resampling the rounds of each size.
    """
    generator = np.random.default_rng(0)
    sizes = np.array(list(times), float)

    def fitted(values: np.ndarray, degree: int) -> np.ndarray:
        return np.polyfit(sizes, values, degree, w=1 / np.sqrt(sizes))

    slopes, bends = [], []
    for _ in range(2000):
        values = np.array([np.median(generator.choice(rounds, len(rounds))) for rounds in times.values()])
        slopes.append(fitted(values, 1)[0])
        bends.append(fitted(values, 2)[0] * sizes[-1] ** 2 / values[-1])
    medians = np.array([np.median(rounds) for rounds in times.values()])

    def interval(found: list[float]) -> list[float]:
        return [round(float(value), 4) for value in np.percentile(found, [2.5, 97.5])]

    return {
        "slope_s": round(float(fitted(medians, 1)[0]), 4),
        "slope_interval_s": interval(slopes),
        "start_s": round(float(fitted(medians, 1)[1]), 3),
        "curvature": round(float(fitted(medians, 2)[0] * sizes[-1] ** 2 / medians[-1]), 4),
        "curvature_interval": interval(bends),
    }

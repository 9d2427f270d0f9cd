"""Measure what the pipeline costs on this machine's CPU, against the published recipe in the same run.

    python benchmarks/bench.py --volumes TREE --baseline FOLDER [--rows NAME ...] [--rounds N] [--steps N]
        [--peers PYTHON]

Each row is a function of a module beside this one; what it finds goes into results/cpu.json with machine and date, and
from there into the tables of README.md and benchmarks/README.md and into the plot.  Rows that are not measured this
time keep what was found before, with their own date.  ``predict`` is kept as ``predict_float32`` where the processor
has no quick bf16: both belong in the table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cpu_animation
import cpu_peers
import cpu_predict
import cpu_preprocess
import cpu_slices
import figures
import speed_tables
from trees import require, scratch

from lungseg.records import write_json

RESULTS = figures.RESULTS / "cpu.json"
ROWS = (
    "start",
    "preprocess_24",
    "preprocess_2",
    "memory",
    "growth",
    "weights",
    "load",
    "forward",
    "predict",
    "animation",
    "peers",
)
FLOAT32 = "predict_float32"  # what ``predict`` is kept as where the processor has no quick bf16
KEPT = (*ROWS[: ROWS.index("animation")], FLOAT32, *ROWS[ROWS.index("animation") :])


def rows(
    volumes: Path, baseline: Path, work: Path, rounds: int, steps: int, python: Path | None
) -> dict[str, Callable[[], dict[str, Any]]]:
    """What measures each row; slices of both pipelines are made when the first one needs them."""
    made: list[tuple[Path, Path]] = []

    def slices() -> tuple[Path, Path]:
        if not made:
            made.append(cpu_slices.prepared(volumes, baseline, work))
        return made[0]

    return {
        "start": lambda: cpu_animation.start(3 * rounds),
        "preprocess_24": lambda: cpu_preprocess.many(volumes, baseline, work, rounds),
        "preprocess_2": lambda: cpu_preprocess.two(volumes, baseline, work, rounds),
        "memory": lambda: cpu_preprocess.memory(volumes, baseline, work),
        "growth": lambda: cpu_preprocess.growth(volumes, baseline, work, rounds),
        "weights": lambda: cpu_slices.weights(slices(), baseline, rounds),
        "load": lambda: cpu_slices.load_and_augment(slices(), baseline, rounds),
        "forward": lambda: cpu_predict.forward(rounds),
        "predict": lambda: cpu_predict.predict(volumes, slices()[0], work, rounds, steps),
        "animation": lambda: cpu_animation.animation(volumes, work, 1),
        "peers": lambda: cpu_peers.peers(
            require(python or Path("?"), "another Python with --peers"), volumes, baseline, slices()[0], work, rounds
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=Path, required=True, help="a tree with lung_001 and lung_113")
    parser.add_argument("--baseline", type=Path, required=True, help="the folder with the recipe's scripts")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS[:-1])
    parser.add_argument("--peers", type=Path, help="Python of an environment with peers.txt, for the row of that name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=cpu_predict.STEPS, help="of training before the row predict")
    parser.add_argument("--work", type=Path, help="scratch folder, kept (a temporary one, in memory if it has room)")
    args = parser.parse_args()
    require(args.volumes / "imagesTr", "a tree of whole scans with --volumes")
    require(args.baseline / "preprocess.py", "the recipe's folder with --baseline")
    work = args.work or scratch()
    work.mkdir(parents=True, exist_ok=True)
    try:
        measures = rows(args.volumes.resolve(), args.baseline.resolve(), work, args.rounds, args.steps, args.peers)
        for name in args.rows:
            started, load = time.perf_counter(), os.getloadavg()[0]
            found = {"load_before": round(load, 1), **measures[name]()}
            print(f"{name} ({time.perf_counter() - started:.0f} s): {json.dumps(found)}", flush=True)
            _keep(FLOAT32 if name == "predict" and not found["fast_bf16"] else name, found)
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    speed_tables.write()


def _keep(name: str, found: dict[str, Any]) -> None:
    content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": {}}
    stamp = {"date": datetime.date.today().isoformat(), "machine": figures.machine()}
    content["what"] = "lung_001 (512 x 512 x 304, 102 MB) and lung_113 (512 x 512 x 99, 21 MB), copied as often as said"
    content["rows"][name] = {**stamp, **found}
    content["rows"] = {row: content["rows"][row] for row in KEPT if row in content["rows"]}
    write_json(RESULTS, content)


if __name__ == "__main__":
    main()

"""The systems that lungseg is compared with, trained and scored on folds of the slice sets: one JSON a fold.

    python benchmarks/accuracy_peers.py recipe TREE OUT --baseline FOLDER [--folds 0 1 2 3] [--seed 0] [--jobs 4]
    python benchmarks/accuracy_peers.py nnunet TREE OUT --trainer 5epochs [--folds 0 1 2 3] [--jobs 2] [--no-compile]

TREE holds the slice sets in Task06_Lung's layout with nnU-Net's `splits_final.json`.  A fold that has its file in OUT
is not run again, so a run that was stopped goes on with the folds that are missing.  `--jobs` folds run side by side.
`--minutes` starts no fold that would not end within that time, judged by the slowest so far.

Research only, not a medical device, not for clinical use.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import os
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import accuracy_nnunet as nnunet
import accuracy_recipe as recipe
import accuracy_score as score
import torch
from figures import machine

from lungseg.executor import cores


def main() -> None:
    args = _parser().parse_args()
    started = time.monotonic()
    work = args.work or Path(tempfile.gettempdir()) / "accuracy-work"
    work.mkdir(parents=True, exist_ok=True)
    system = "recipe" if args.system == "recipe" else f"nnunet_{args.trainer}"
    todo = [fold for fold in args.folds if not score.record_path(args.out, system, fold, args.seed).is_file()]
    jobs = max(1, min(args.jobs, len(todo)))
    facts = machine_facts(args.device, jobs)
    if args.system == "nnunet" and todo:
        print(
            f"nnU-Net: planned and preprocessed in {nnunet.prepare(args.tree, work, processes=cores()):.0f} s",
            flush=True,
        )
    with ThreadPoolExecutor(jobs) as pool:  # each job only waits for processes
        running: set[Future[float]] = set()
        slowest = 0.0
        while todo or running:
            while todo and len(running) < jobs:
                if args.minutes and time.monotonic() - started + slowest > args.minutes * 60:
                    print(f"no time for the folds {todo}: run it again", flush=True)
                    todo.clear()
                    break
                running.add(pool.submit(_fold, args, work, todo.pop(0), jobs, facts))
            done, running = wait(running, return_when=FIRST_COMPLETED) if running else (set(), set())
            slowest = max([slowest, *(future.result() for future in done)])


def _fold(args: argparse.Namespace, work: Path, fold: int, jobs: int, facts: dict[str, Any]) -> float:
    """Run one fold and write its records; returns its seconds."""
    started = time.monotonic()
    if args.system == "recipe":
        records = [
            recipe.run(args.tree, args.baseline, work, fold, seed=args.seed, device=args.device, workers=args.workers,
                       epochs=args.epochs, steps=args.max_steps)
        ]  # fmt: skip
    else:
        loaders = args.loaders or max(1, nnunet.LOADERS_A_FOLD * cores() // 16 // jobs)
        records = list(
            nnunet.run(work, args.tree, fold, trainer=args.trainer, device=args.device, loaders=loaders,
                       compiled=args.compile, mirrored_only=args.mirrored_only)
        )  # fmt: skip
    # The record that says that the fold is done is the first one: it is written last.
    for record in reversed(records):
        path = score.write_record(args.out, dataclasses.replace(record, machine=facts))
        dice = sum(case.dice for case in record.cases) / len(record.cases)
        missed = sum(case.missed for case in record.cases)
        print(f"{path}: mean Dice {dice:.3f} over {len(record.cases)}, {missed} missed; "
              + ", ".join(f"{name} {value:.0f} s" for name, value in record.seconds.items()), flush=True)  # fmt: skip
    return time.monotonic() - started


def machine_facts(device: str, jobs: int) -> dict[str, Any]:
    """What seconds depend on besides the system."""
    return {"device": device, **machine(), "numpy": importlib.metadata.version("numpy"), "folds_side_by_side": jobs}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    systems = parser.add_subparsers(dest="system", required=True)
    for name in ("recipe", "nnunet"):
        one = systems.add_parser(name)
        one.add_argument("tree", type=Path)
        one.add_argument("out", type=Path)
        one.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3])
        one.add_argument("--jobs", type=int, default=1, help="folds that run side by side")
        one.add_argument(
            "--work", type=Path, help="folder for what is needed on the way (default: the temporary folder)"
        )
        one.add_argument("--minutes", type=float, default=0.0, help="start no fold that would not end within this time")
        one.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    recipes, nets = systems.choices["recipe"], systems.choices["nnunet"]
    recipes.add_argument("--baseline", type=Path, required=True, help="folder with the recipe's scripts")
    recipes.add_argument("--seed", type=int, default=0)
    recipes.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="of its loader")
    recipes.add_argument("--epochs", type=int, default=recipe.EPOCHS)
    recipes.add_argument("--max-steps", type=int, default=0, help="steps an epoch, for a proof on a CPU only")
    nets.set_defaults(seed=0)  # nnU-Net has no seed
    nets.add_argument(
        "--trainer", default="5epochs", help="ending of one of nnU-Net's trainers: 1epoch, 5epochs, 10epochs, ..."
    )
    nets.add_argument("--loaders", type=int, default=0, help="augmenting processes a fold")
    nets.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    nets.add_argument("--mirrored-only", action="store_true", help="leave out the score without mirroring")
    return parser


if __name__ == "__main__":
    main()

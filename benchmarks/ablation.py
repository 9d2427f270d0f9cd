"""What each ingredient of `strong` brings: one row an ingredient, trained and scored on the same folds.

    python benchmarks/ablation.py PROCESSED SPLITS OUT [--rows NAME ...] [--folds 0,1] [--epochs 20] [--minutes 2]
        [--seeds 0] [--side-by-side 12] [--seconds 150] [--device cuda] [--base '{"tumour_share": 0.8}']

Every row is `strong` with one setting changed (``rows``); each is trained on every fold for the same number of epochs,
so that how busy the machine is changes the time and not the result, and the fold's held-out patients are scored by the
last weights: no held-out patient chooses anything.  A row of ``LENGTHS`` is the recipe itself, trained for another
number of epochs: how Dice grows with time.  With ``--minutes`` every row has the same time in place of the same epochs,
and what counts is how much it learns of it; all of them have to run in the same company.  ``--base`` changes the
recipe that all rows start from.  The row ``with neighbours`` is there where the slices have any: not on stacks with
gaps.  Where they have, slices with both neighbours are counted, and no others, in every row alike.

``OUT/<row>/fold<k>.json`` holds the counts of each patient (accuracy_score.py), ``OUT/runs`` the runs with the
probabilities in 255ths.  Run again it goes on: what is there is not done again.  ``--seconds`` ends it: no job is
started later, and what still runs then is stopped, to go on from its last epoch.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import accuracy_score as score
import accuracy_settings as settings_of
import numpy as np
from accuracy_peers import machine_facts

from lungseg.config import Recipe, recipe_from_dict, recipe_named, to_dict
from lungseg.manifest import Manifest
from lungseg.tuning import THRESHOLDS, CaseCounts

LENGTHS = {"a quarter as long": 0.25, "half as long": 0.5, "two and a half times as long": 2.5}
GAPLESS = ("with neighbours",)  # rows for slices of whole scans alone
GRACE_S = 5.0  # less than this is not worth a start


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with settings of a JSON table in place of its own; tables in it change a part of theirs."""
    values = to_dict(recipe)
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    return recipe_from_dict(values).but(neighbours=changes.get("neighbours"))


def rows(changes: dict[str, Any]) -> dict[str, Recipe]:
    """The recipes by the name of their row; ``strong``, with these changes, is what the others differ from."""
    strong = changed(recipe_named("strong"), changes)
    unet, augmentation = strong.unet, strong.augmentation
    return {
        "strong": strong,
        **dict.fromkeys(LENGTHS, strong),
        "grey levels as they are": strong.but(
            augmentation=replace(augmentation, contrast=(1.0, 1.0), offset_hu=0.0, noise_hu=0.0, blur=0.0)
        ),
        "the published transform": strong.but(
            augmentation=replace(augmentation, scale=(0.85, 1.15), rotation_deg=45.0, translation=0.15)
        ),
        "no mirroring": strong.but(augmentation=replace(augmentation, mirror=0.0), test_mirror=False),
        "no elastic transform": strong.but(augmentation=replace(augmentation, elastic_strength=(0.0, 0.0))),
        "no deep supervision": strong.but(unet=replace(unet, deep=0)),
        "averaged weights": strong.but(average=0.99),
        "BCE alone": strong.but(loss="bce"),
        "HU / 3071, no window": strong.but(unet=replace(unet, window_hu=None)),
        "instance normalisation": strong.but(unet=replace(unet, norm="instance")),
        "four in five with tumour": strong.but(tumour_share=0.8),
        "slices drawn alike": strong.but(draw_by="slice"),
        "as many as there are": replace(strong, tumour_share=0.0),
        "each pixel for itself": strong.but(unet=replace(unet, patch=1)),
        "skips concatenated": strong.but(unet=replace(unet, skip="concat")),
        "twice as wide": strong.but(unet=replace(unet, widths=tuple(2 * width for width in unet.widths))),
        "half the learning rate": strong.but(learning_rate=1e-3),
        "with neighbours": strong.but(neighbours=1),
        "windows to the end": replace(strong, whole_slices=0.0),
        "whole slices": strong.but(augmentation=replace(augmentation, window=0), batch_size=16),
        "no mirror image in prediction": replace(strong, test_mirror=False),
        "another zoom in prediction": replace(strong, test_zooms=(1.25,)),
        "classic": recipe_named("classic").but(inner_val=0.0),
    }


@dataclass(frozen=True)
class Job:
    """One row on one fold with one seed."""

    row: str
    fold: int
    seed: int
    epochs: int | None

    @property
    def system(self) -> str:
        """The row's name as the name of a folder."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.row)

    def file(self, out: Path, name: str) -> Path:
        """Where this job keeps something that is not its record."""
        return out / "runs" / self.system / f"fold{self.fold}-seed{self.seed}" / name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("processed", "splits", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--base", type=json.loads, default={}, help="settings, as JSON, in place of strong's own")
    parser.add_argument("--rows", nargs="+")
    parser.add_argument("--folds", default="0,1")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--minutes", type=float, help="of training for each job, in place of a number of epochs")
    parser.add_argument("--side-by-side", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of each job; 0 leaves it to torch")
    args = parser.parse_args()
    known = list(rows(args.base))
    left_out = {*(LENGTHS if args.minutes else ()), *(GAPLESS if Manifest.read(args.processed).slice_sets else ())}
    args.rows = args.rows or [name for name in known if name not in left_out]
    unknown = sorted(set(args.rows) - set(known))
    if args.minutes and set(args.rows) & set(LENGTHS):
        parser.error(f"with --minutes all rows take as long: leave out {', '.join(LENGTHS)}")
    if unknown:
        parser.error(f"no such rows: {', '.join(unknown)}; there are {', '.join(known)}")
    folds, seeds = ([int(number) for number in text.split(",")] for text in (args.folds, args.seeds))
    jobs = [Job(row, fold, seed, args.epochs) for seed in seeds for row in args.rows for fold in folds]
    refuse_other_recipes(jobs, args)
    run_all([job for job in jobs if not record_file(args.out, job).exists()], args)


def refuse_other_recipes(jobs: list[Job], args: argparse.Namespace) -> None:
    """What was done by another version is not compared with what this one does."""
    for job in jobs:
        path = record_file(args.out, job)
        if path.exists() and score.read_record(path).settings["recipe"] != to_dict(recipe_of(job, args)):
            raise SystemExit(f"{path} is of another recipe than `{job.row}` now is: name another folder")


def recipe_of(job: Job, args: argparse.Namespace) -> Recipe:
    """What the job trains."""
    recipe = rows(args.base)[job.row].but(seed=job.seed, epochs=job.epochs)
    return recipe.but(epochs=max(1, round(recipe.epochs * LENGTHS.get(job.row, 1.0))))


def run_all(jobs: list[Job], args: argparse.Namespace) -> None:
    """Each job in a process of its own, forked from this one: what takes seconds to import is imported once."""
    import lungseg.inference
    import lungseg.train  # noqa: F401

    forking, end = multiprocessing.get_context("fork"), time.monotonic() + args.seconds
    waiting, running = list(jobs), {}
    while waiting or running:
        while waiting and len(running) < args.side_by_side and end - time.monotonic() > GRACE_S:
            job = waiting.pop(0)
            process = forking.Process(target=in_child, args=(job, args))
            process.start()
            running[job] = process, time.monotonic()
        over = time.monotonic() > end
        for job, (process, started) in list(running.items()):
            if over and process.is_alive():
                process.kill()
            process.join(0.0 if not over else None)
            if process.exitcode is not None:
                said = {0: "done", -9: "stopped: the time is over"}.get(process.exitcode, "failed, see its log.txt")
                print(
                    f"{job.row}, fold {job.fold}, seed {job.seed}: {said}, {time.monotonic() - started:.0f} s",
                    flush=True,
                )
                del running[job]
        if waiting and not running and end - time.monotonic() <= GRACE_S:
            print(f"not started: {len(waiting)} jobs; run it again", flush=True)
            break
        time.sleep(0.2)


def in_child(job: Job, args: argparse.Namespace) -> None:
    """What the job prints goes to its own file."""
    path = job.file(args.out, "log.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8", buffering=1) as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        run(job, args)


def record_file(out: Path, job: Job) -> Path:
    return score.record_path(out, job.system, job.fold, job.seed)


def run(job: Job, args: argparse.Namespace) -> None:
    """Train, predict the held-out patients, write what came out."""
    import torch

    from lungseg.train import train

    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = recipe_of(job, args)
    folder = job.file(args.out, "run")
    result = train(
        args.processed,
        folder,
        recipe=recipe,
        fold=job.fold,
        splits=args.splits,
        device=args.device,
        max_minutes=args.minutes,
        resume=(folder / "config.json").exists(),
    )
    trained, scoring = result.minutes * 60.0, time.monotonic()  # what it took before it was stopped counts too
    cases, levels, found = scored(folder, args.processed, args.device)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **levels)
    job.file(args.out, "levels.npz").write_bytes(buffer.getvalue())
    settings_of.write(job.file(args.out, settings_of.FILE), found)
    seconds = {"train": trained, "total": trained + time.monotonic() - scoring}
    machine = machine_facts(args.device, args.side_by_side)
    ended = {"epochs": result.epochs, "ended_by": result.reason, "max_minutes": args.minutes}
    settings = {**ended, "recipe": to_dict(recipe)}
    score.write_record(
        args.out, score.FoldRecord(job.system, job.fold, job.seed, tuple(cases), seconds, machine, settings)
    )


def scored(
    run_folder: Path, processed: Path, device: str
) -> tuple[list[score.CaseCounts], dict[str, np.ndarray], list[CaseCounts]]:
    """Counts of each held-out patient's pixels, the probabilities in 255ths, and counts at every setting."""
    from lungseg.case_record import image_name, mask_name
    from lungseg.inference import Segmenter
    from lungseg.neighbours import Neighbours
    from lungseg.run_folder import SPLITS
    from lungseg.slice_file import read_slice
    from lungseg.splits import Split

    manifest = Manifest.read(processed)
    size = manifest.config.size
    segmenter = Segmenter.load(run_folder, checkpoint="last", device=device)
    cases, kept, found = [], {}, []
    for case in Split.read(run_folder / SPLITS).held_out:
        folder, slices = manifest.root / case, manifest.record(case).slices
        images = [read_slice(folder / image_name(z), np.float16, size) for z in slices]
        truth = np.stack([read_slice(folder / mask_name(z), np.uint8, size) for z in slices])
        slice_mm, counted = manifest.record(case).las_spacing_mm[2], np.ones(len(slices), bool)
        if not manifest.slice_sets:
            # Alike for all rows: a slice with one neighbour, at the end of a stack, tells that the tumour ends there.
            counted[:] = [len(set(row)) == 3 for row in Neighbours(1).table(slices, slice_mm).tolist()]
        probability = np.stack(list(segmenter.probabilities(images, slices, slice_mm)))
        truth, shown = truth[counted], probability[counted]
        cases.append(score.CaseCounts(case, *score.counts(truth, shown > 0.5), len(truth)))
        found.append(settings_of.counted(case, truth, shown))
        levels = np.rint(probability * 255.0).astype(np.uint8)
        kept[case] = np.where(levels < 255 * THRESHOLDS[0], 0, levels)  # what no threshold keeps only takes room
    return cases, kept, found


if __name__ == "__main__":
    main()

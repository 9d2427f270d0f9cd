"""What each ingredient of `strong` brings: one row an ingredient, trained and scored on the same folds.

    python benchmarks/ablation.py PROCESSED SPLITS OUT [--rows NAME ...] [--folds 0,1] [--epochs 20] [--seeds 0]
        [--side-by-side 12] [--seconds 150] [--device cuda]

Every row is `strong` with one setting changed (``ROWS``); each is trained on every fold for the same number of epochs,
so that how busy the machine is changes the time and not the result, and the fold's held-out patients are scored by the
last weights: no held-out patient chooses anything.  ``OUT/<row>/fold<k>.json`` (with another seed
``OUT/<row>-seed<s>/...``) holds the counts of each patient at several thresholds, and ``levels<k>.npz`` the
probabilities in 255ths.  Run again it goes on: what is there is not done again.  ``--seconds`` ends it: no job is
started later, and what still runs then is stopped, to go on from its last epoch.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lungseg.config import Recipe, recipe_named

THRESHOLDS = tuple(step / 64 for step in (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56))
GRACE_S = 5.0


def rows() -> dict[str, Recipe]:
    """The recipes by the name of their row; ``strong`` is what the others differ from."""
    strong = recipe_named("strong")
    unet, augmentation = strong.unet, strong.augmentation
    return {
        "strong": strong,
        "grey levels as they are": strong.but(
            augmentation=replace(augmentation, contrast=(1.0, 1.0), offset_hu=0.0, noise_hu=0.0, blur=0.0)
        ),
        "the published transform": strong.but(
            augmentation=replace(augmentation, scale=(0.85, 1.15), rotation_deg=45.0, translation=0.15)
        ),
        "no mirroring": strong.but(augmentation=replace(augmentation, mirror=0.0), test_mirror=False),
        "no elastic transform": strong.but(augmentation=replace(augmentation, elastic_strength=(0.0, 0.0))),
        "no deep supervision": strong.but(unet=replace(unet, deep=0)),
        "no averaged weights": replace(strong, average=0.0),
        "BCE alone": strong.but(loss="bce"),
        "HU / 3071, no window": strong.but(unet=replace(unet, window_hu=None)),
        "instance normalisation": strong.but(unet=replace(unet, norm="instance")),
        "slices drawn alike": strong.but(draw_by="slice"),
        "as many as there are": replace(strong, tumour_share=0.0),
        "2 x 2 pixels as one": strong.but(unet=replace(unet, patch=2, widths=(64, 96, 160, 224, 256), deep=1)),
        "widths of classic": strong.but(unet=replace(unet, widths=(64, 128, 256, 512), deep=2)),
        "half the learning rate": strong.but(learning_rate=1e-3),
        "windows of 128": strong.but(augmentation=replace(augmentation, window=128), batch_size=32),
        "no mirror image in prediction": replace(strong, test_mirror=False),
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
    def folder(self) -> str:
        return self.row.replace(" ", "_").replace("/", "") + (f"-seed{self.seed}" if self.seed else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("processed", "splits", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rows", nargs="+", default=list(rows()))
    parser.add_argument("--folds", default="0,1")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--side-by-side", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of each job; 0 leaves it to torch")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        run(Job(**json.loads(args.job)), args)
        return
    unknown = sorted(set(args.rows) - set(rows()))
    if unknown:
        parser.error(f"no such rows: {', '.join(unknown)}; there are {', '.join(rows())}")
    folds, seeds = ([int(number) for number in text.split(",")] for text in (args.folds, args.seeds))
    jobs = [Job(row, fold, seed, args.epochs) for seed in seeds for row in args.rows for fold in folds]
    left = [job for job in jobs if not result_file(args.out, job).exists()]
    end = time.monotonic() + args.seconds
    with ThreadPoolExecutor(args.side_by_side) as pool:
        for job, seconds, failed in pool.map(lambda job: apart(job, args, end), left):
            print(f"{job.row}, fold {job.fold}, seed {job.seed}: {failed or f'{seconds:.0f} s'}", flush=True)


def apart(job: Job, args: argparse.Namespace, end: float) -> tuple[Job, float, str]:
    """The job in a process of its own; why there is no result, or nothing."""
    left, started = end - time.monotonic(), time.monotonic()
    if left < GRACE_S:
        return job, 0.0, "not started: the time is over"
    words = [sys.executable, __file__, args.processed, args.splits, args.out, "--job", json.dumps(vars(job))]
    words += ["--device", args.device, "--threads", args.threads]
    folder = args.out / job.folder
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"log{job.fold}.txt", "a", encoding="utf-8") as log:
        try:
            done = subprocess.run(
                [str(word) for word in words], stdout=log, stderr=log, timeout=None if left == float("inf") else left
            )
        except subprocess.TimeoutExpired:
            return job, time.monotonic() - started, "stopped: the time is over"
    return job, time.monotonic() - started, f"failed, see {log.name}" if done.returncode else ""


def result_file(out: Path, job: Job) -> Path:
    return out / job.folder / f"fold{job.fold}.json"


def run(job: Job, args: argparse.Namespace) -> None:
    """Train, predict the held-out patients, write what came out."""
    started = time.monotonic()
    import torch

    from lungseg.fitting import machine_facts
    from lungseg.train import train

    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = rows()[job.row].but(seed=job.seed, epochs=job.epochs)
    folder = args.out / job.folder / f"run{job.fold}"
    result = train(
        args.processed,
        folder,
        recipe=recipe,
        fold=job.fold,
        splits=args.splits,
        device=args.device,
        resume=(folder / "config.json").exists(),
    )
    trained = time.monotonic() - started
    cases, levels = scored(folder, args.processed, args.device)
    record = {
        "system": job.row,
        "fold": job.fold,
        "seed": job.seed,
        "epochs": recipe.epochs,
        "train_minutes": result.minutes,
        "seconds": round(trained, 1),
        "machine": machine_facts(torch.device(args.device if args.device != "auto" else "cpu"), recipe.precision),
        "thresholds": THRESHOLDS,
        "cases": cases,
    }
    buffer = io.BytesIO()
    import numpy as np

    np.savez_compressed(buffer, **levels)
    result_file(args.out, job).with_name(f"levels{job.fold}.npz").write_bytes(buffer.getvalue())
    result_file(args.out, job).write_text(json.dumps(record, indent=1))


def scored(run_folder: Path, processed: Path, device: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Counts of each held-out patient's pixels, and the probabilities in 255ths."""
    import numpy as np

    from lungseg.inference import Segmenter
    from lungseg.manifest import Manifest
    from lungseg.run_folder import SPLITS
    from lungseg.slice_file import read_slice
    from lungseg.splits import Split

    manifest = Manifest.read(processed)
    segmenter = Segmenter.load(run_folder, checkpoint="last", device=device)
    cases, kept = [], {}
    for case in Split.read(run_folder / SPLITS).held_out:
        record = manifest.record(case)

        def images(case: str = case, record: Any = record) -> Iterator[Any]:
            for z in record.slices:
                yield read_slice(manifest.root / case / f"images/{z:03d}.npy", np.float16, manifest.config.size, None)

        probability = np.stack(list(segmenter.probabilities(images())))
        paths = [manifest.root / case / f"masks/{z:03d}.npy" for z in record.slices]
        truth = np.stack([read_slice(path, np.uint8, manifest.config.size, None) for path in paths]) != 0
        found = [probability > threshold for threshold in THRESHOLDS]
        at_half = probability > 0.5
        cases.append(
            {
                "case": case,
                "slices": len(truth),
                "truth": int(truth.sum()),
                "tp": int((truth & at_half).sum()),
                "fp": int((~truth & at_half).sum()),
                "fn": int((truth & ~at_half).sum()),
                "tp_at": [int((truth & mask).sum()) for mask in found],
                "found_at": [int(mask.sum()) for mask in found],
            }
        )
        kept[case] = np.rint(probability * 255.0).astype(np.uint8)
    return cases, kept


if __name__ == "__main__":
    main()

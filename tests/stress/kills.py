"""Commands killed at any moment and given again: the same tree, the same weights (rows 28, 36, 37 and 45)."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np

from lungseg.files import TEMPORARY_PREFIX
from lungseg.preprocess import preprocess
from tests.known_network import write_run
from tests.training import weights_of, write_slices
from tests.volumes import tree_bytes, write_tree

from . import Figure
from .victim import Victim

SETTINGS = ("--size", 16, "--skip-slices", 2)


def preprocess_kills(count: int, folder: Path, seed: int = 0) -> Figure:
    """Two thirds before a change of a file, a third at random with two workers."""
    figure = Figure("preprocess_kills", "identical tree; at most the cases in flight are done again")
    rng = np.random.default_rng(seed)
    root = write_tree(folder / "root", cases=4)
    with Victim(folder) as victim:
        clean = victim.run("preprocess", root, folder / "clean", *SETTINGS, "--workers", 1, watch=str(folder / "clean"))
        figure.check(clean["code"] == 0, f"the run without a kill ended with {clean['code']}: {clean['err']}")
        expected = tree_bytes(folder / "clean")
        figure.facts = {"changes_of_a_run": clean["changes"], "at_a_change": 0, "at_random": 0, "cases_kept": 0}
        for number in range(count):
            out = folder / f"out-{number}"
            at_random = number % 3 == 2
            case = f"kill {number}"
            if at_random:
                delay = float(rng.uniform(0.2, 3.0))
                dead = victim.run("preprocess", root, out, *SETTINGS, "--workers", 2, kill_after=delay)
                case += f" after {delay:.2f} s"
                figure.facts["at_random"] += 1
            else:
                # Over the whole run, each a little apart from where the last ones were.
                at = 1 + int((number + rng.random()) / count * clean["changes"])
                dead = victim.run("preprocess", root, out, *SETTINGS, "--workers", 1, kill_at=at, watch=str(out))
                case += f" at change {at}"
                figure.check(dead["code"] == -signal.SIGKILL, f"{case}: ended with {dead['code']}")
                figure.facts["at_a_change"] += 1
            finished = len(list(out.glob("*/case.json")))
            again = victim.run("preprocess", root, out, *SETTINGS, "--workers", 1)
            figure.tried += 1
            figure.check(again["code"] == 0, f"{case}: the rerun ended with {again['code']}: {again['err']}")
            kept = f"({finished} were there already)" in again["out"] if finished else True
            figure.check(kept, f"{case}: {finished} cases were finished, and the rerun says: {again['out']}")
            figure.facts["cases_kept"] += finished
            found = tree_bytes(out) if out.is_dir() else {}
            figure.check(found == expected, f"{case}: {_difference(found, expected)}")
    return figure


def training_kills(count: int, folder: Path, seed: int = 0) -> Figure:
    """Half with no loader worker and half with two; at changes of files, within checkpoints, and at random."""
    figure = Figure("training_kills", "identical weights and optimizer state, byte for byte, in best and last")
    rng = np.random.default_rng(seed)
    processed = folder / "processed"
    write_slices(processed)
    train = ("--recipe", "demo", "--device", "cpu", "--n-folds", 3)
    with Victim(folder) as victim:
        clean = victim.run("train", processed, folder / "clean", *train, watch=str(folder / "clean"))
        figure.check(clean["code"] == 0, f"the run without a kill ended with {clean['code']}: {clean['err'][-500:]}")
        expected = {name: _weights(folder / "clean" / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")}
        figure.facts = {"changes_of_a_run": clean["changes"]}
        for number in range(count):
            run, workers = folder / f"run-{number}", (0, 2)[number % 2]
            options = ("--loader-workers", workers) if workers else ()
            way = ("change", "change", "checkpoint", "checkpoint", "random")[number // 2 % 5]
            case = f"kill {number}, {workers} workers, at {way}"
            if way == "random":
                how: dict[str, object] = {"kill_after": float(rng.uniform(0.1, 2.5))}
            elif way == "change":
                at = 1 + int((number + rng.random()) / count * clean["changes"])
                how = {"kill_at": at, "watch": str(run)}
            else:
                # Inside the folder of checkpoints: opened, written, moved, and the digests before and after.
                how = {"kill_at": 1 + int(rng.integers(18)), "watch": str(run / "checkpoints")}
            dead = victim.run("train", processed, run, *train, *options, **how)
            if way != "random":
                figure.check(
                    dead["code"] == -signal.SIGKILL, f"{case}: ended with {dead['code']}: {dead['err'][-300:]}"
                )
            resume = ("--resume",) if (run / "config.json").exists() else ()
            again = victim.run("train", processed, run, *train, *options, *resume)
            figure.tried += 1
            if not figure.check(again["code"] == 0, f"{case}: resumed with {again['code']}: {again['err'][-300:]}"):
                continue
            for name, weights in expected.items():
                found = _weights(run / "checkpoints" / f"{name}.ckpt")
                other = [key for key in weights if found.get(key) != weights[key]]
                figure.check(found.keys() == weights.keys() and not other, f"{case}: {name} differs in {other[:3]}")
            figure.check(json.loads((run / "config.json").read_text())["finished"] is not None, f"{case}: not finished")
    return figure


def predict_kills(count: int, folder: Path) -> Figure:
    """One scan and a folder of scans, before changes of files that are spread over the whole command."""
    figure = Figure("predict_kills", "no half mask, the scan as it was, and the same command ends in the same bytes")
    root = write_tree(folder / "root")
    run = write_run(folder / "run", preprocess(root, folder / "slices", size=16, skip_slices=2, workers=1).manifest)
    before = tree_bytes(root)
    figure.facts = {"changes_of_a_run": {}}
    with Victim(folder) as victim:
        for number in range(count):
            kind = ("scan", "folder")[number % 2]
            scan, name = (root / "imagesTr/lung_001.nii.gz", "mask.nii.gz") if kind == "scan" else (root, "masks")
            clean, out = folder / f"clean-{kind}", folder / f"out-{number}"
            for place in (clean, out):
                place.mkdir(exist_ok=True)
            if kind not in figure.facts["changes_of_a_run"]:
                done = victim.run("predict", run, scan, clean / name, "--device", "cpu", watch=str(clean))
                figure.check(done["code"] == 0, f"without a kill: {done['code']} {done['err'][-200:]}")
                figure.facts["changes_of_a_run"][kind] = done["changes"]
            changes = figure.facts["changes_of_a_run"][kind]
            at = 1 + number // 2 * changes // max(1, (count + 1) // 2)
            words = ("predict", run, scan, out / name, "--device", "cpu")
            dead = victim.run(*words, kill_at=at, watch=str(out))
            case = f"{kind}, kill {number} at change {at} of {changes}"
            figure.tried += 1
            figure.check(dead["code"] == -signal.SIGKILL, f"{case}: ended with {dead['code']}")
            halves = [fault for fault in victim.ask("unsound", path=out) if not fault.endswith("was left behind")]
            figure.check(not halves, f"{case}: {halves}")
            figure.check(tree_bytes(root) == before, f"{case}: the scans were changed")
            again = victim.run(*words)
            figure.check(again["code"] == 0, f"{case}: the rerun ended with {again['code']}: {again['err'][-200:]}")
            found = {name: data for name, data in tree_bytes(out).items() if TEMPORARY_PREFIX not in name}
            figure.check(found == tree_bytes(clean), f"{case}: {_difference(found, tree_bytes(clean))}")
    return figure


def _weights(checkpoint: Path) -> dict[str, bytes]:
    return {key: value.contiguous().numpy().tobytes() for key, value in weights_of(checkpoint).items()}


def _difference(found: dict[str, bytes], expected: dict[str, bytes]) -> str:
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"{len(names)} files differ: {', '.join(names[:5])}"

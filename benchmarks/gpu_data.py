"""The data of the GPU benchmark, made beside it in a process of its own: phantoms, slices, and the recipe's slices.

    python benchmarks/gpu_data.py WORK PLAN [BASELINE]

PLAN is the plan of gpu.py as JSON.  A file `made.json` in WORK says that all is there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lungseg.manifest import Manifest
from lungseg.preprocess import preprocess
from lungseg.records import write_json
from lungseg.sample import write_sample

MADE, SCAN = "made.json", "scan"
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/\"']+/)+")  # of a file of this machine
RECIPE_COPIES = 3  # of each of the recipe's subjects: 12 phantoms are no epoch


def without_folders(value: Any) -> Any:
    """Plain values without the folders of this machine, which stand in what a compiler or a test says."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value


def make(work: Path, plan: dict[str, Any], baseline: Path | None) -> dict[str, Any]:
    """Make everything below ``work``.

    ``tree`` holds phantoms; ``slices`` their slices; ``many`` the same patients in several copies (hard links, so of no
    cost), for an epoch of a real data set's length; ``scan`` the phantom to predict; ``recipe`` the recipe's slices.
    """
    started = time.perf_counter()
    # The large phantom takes one core as long as all the rest takes many, so it is made beside it.
    words = [sys.executable, __file__, SCAN, str(work), json.dumps(plan)]
    with subprocess.Popen(words) as scan:
        found = _slices(work, plan, baseline)
    if scan.returncode:
        raise SystemExit("the phantom to predict could not be made")
    found["seconds"] = time.perf_counter() - started
    write_json(work / MADE, found)
    return found


def _slices(work: Path, plan: dict[str, Any], baseline: Path | None) -> dict[str, Any]:
    shape = tuple(plan["shape"])
    write_sample(work / "tree", cases=plan["cases"], test_cases=0, shape=shape, seed=0)
    done = preprocess(work / "tree", work / "slices", size=plan["side"])
    slices = copies(done.manifest, work / "many", plan["copies"])
    found: dict[str, Any] = {"slices": slices, "distinct_slices": slices // plan["copies"]}
    if baseline is not None:
        words = [sys.executable, baseline / "preprocess.py", work / "tree", work / "recipe", "--sort", "--n-val", "1"]
        ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        found["recipe_preprocess"] = "done" if ran.returncode == 0 else ran.stderr[-400:]
        if ran.returncode == 0:
            _multiply(work / "recipe/train")
    return found


def copies(manifest: Manifest, out: Path, count: int) -> int:
    """The same patients ``count`` times under other names; returns the number of slices."""
    records = {}
    for number in range(count):
        for case, record in manifest.cases.items():
            name = f"{case}_{number:02d}"
            shutil.copytree(manifest.root / case, out / name, copy_function=os.link)
            records[name] = record
    written = dataclasses.replace(manifest, root=out, cases=records)
    written.write()
    return sum(len(record.slices) for record in records.values())


def _multiply(folder: Path) -> None:
    for subject in sorted(folder.iterdir()):
        for number in range(1, RECIPE_COPIES):
            shutil.copytree(subject, folder / f"{subject.name}_{number}", copy_function=os.link)


if __name__ == "__main__":
    if sys.argv[1] == SCAN:
        size = tuple(json.loads(sys.argv[3])["scan"])
        write_sample(Path(sys.argv[2]) / SCAN, cases=1, test_cases=0, shape=size, seed=1)
    else:
        make(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)

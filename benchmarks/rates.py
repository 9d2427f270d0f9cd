"""What reading, slicing, scoring and predicting cost besides the network: results/rates.json and docs/reproduce.md.

    python benchmarks/rates.py VOLUMES WORK     measures and writes both
    python benchmarks/rates.py write            writes the table from the figures that are there

``VOLUMES`` is a tree in Task06_Lung's layout with whole scans, labelled ones and at least one without a label.  In
``WORK`` they are preprocessed and two folds trained for a moment.  The clock is the CPU time of this process with one
thread, so that other programs on the machine hardly count; the network is replaced by one that answers at once, with a
spot in every eighth slice.  ``lungseg/estimate.py`` holds the figures; its test compares the two.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from figures import machine

from lungseg.crossval import crossval
from lungseg.crossval_score import score_folds
from lungseg.inference import Segmenter
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.tree import read_tree
from lungseg.verify import verify
from lungseg.workload import workload_of

RESULTS = Path(__file__).resolve().parent / "results" / "rates.json"
DOCS = RESULTS.parents[2] / "docs" / "reproduce.md"
NAMES = {"verify_s": "verify", "preprocess_s": "preprocess", "score_s": "score and report", "predict_s": "predict"}
SPOT, EVERY = 12, 8


def spots(segmenter: Segmenter, slices: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """In place of ``Segmenter.probabilities``: a spot in some slices, next to nothing in all others."""
    for number, image in enumerate(slices):
        probability = np.full(image.shape, 1e-4, np.float32)
        if number % EVERY == 0:
            middle = image.shape[0] // 2
            probability[middle : middle + SPOT, middle : middle + SPOT] = 0.9
        yield probability


def cpu_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(volumes: Path, work: Path) -> dict[str, object]:
    """Seconds of one core for a million voxels of a scan."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    amount = workload_of(read_tree(volumes), "30")
    every, labelled, test = (
        voxels / 1e6
        for voxels in (amount.labelled.voxels + amount.test.voxels, amount.labelled.voxels, amount.test.voxels)
    )
    what = (
        f"whole CTs, {amount.labelled.scans} with and {amount.test.scans} without a label, {every:.0f} million voxels"
    )
    slices, run = work / "slices", work / "run"
    rates = {
        "verify_s": cpu_s(lambda: verify(volumes, workers=1)) / every,
        "preprocess_s": cpu_s(lambda: preprocess(volumes, slices, workers=1)) / every,
    }
    options = {"recipe": "demo", "n_folds": 2, "epochs": 1, "limit_batches": 2, "device": "cpu"}
    with mock.patch.object(Segmenter, "probabilities", spots):
        crossval(slices, run, **options)
        for maps in run.glob("folds/*/out_of_fold/*.json"):
            maps.unlink()
        rates["score_s"] = cpu_s(lambda: score_folds(run, device="cpu")) / labelled
        rates["predict_s"] = cpu_s(lambda: predict(run, volumes / "imagesTs", work / "masks", device="cpu")) / test
    return {
        "date": str(date.today()),
        "what": what,
        "unit": "CPU seconds of one core for a million voxels of a scan, the network left out",
        **{name: round(rate, 4) for name, rate in rates.items()},
        "machine": machine(),
    }


def write_docs(found: dict[str, Any]) -> None:
    """The table of ``docs/reproduce.md``, between its marks."""
    start, end = "<!-- figures: rates -->\n", "<!-- end: rates -->"
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(start)
    _, mark, after = rest.partition(end)
    if not mark:
        raise SystemExit(f"{DOCS.name} has no place for the figures")
    rows = "".join(f"| {name} | {found[key]} |\n" for key, name in NAMES.items())
    facts = found["machine"]
    said = (
        f"Measured {found['date']} on {facts['cores']} cores of {facts['cpu']}, torch {facts['torch']}, by "
        f"`benchmarks/rates.py`, on {found['what']}; the network left out.\n"
    )
    head = "| for a million voxels of a scan | CPU seconds of one core |\n| --- | --- |\n"
    DOCS.write_text(f"{before}{start}{head}{rows}\n{said}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3 and sys.argv[1:] != ["write"]:
        sys.exit(__doc__)
    if len(sys.argv) == 3:
        content = json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2])), indent=1)
        RESULTS.write_text(content + "\n", encoding="utf-8")
        print(content)
    write_docs(json.loads(RESULTS.read_text(encoding="utf-8")))

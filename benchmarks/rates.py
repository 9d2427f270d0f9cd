"""What reading, slicing, scoring and predicting cost besides the network, by voxels: into results/rates.json.

    python benchmarks/rates.py VOLUMES WORK

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


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    found = measure(Path(sys.argv[1]), Path(sys.argv[2]))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))

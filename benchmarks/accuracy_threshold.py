"""The same predictions with a threshold that the patients of the other folds choose, as `crossval` does for `predict`.

``ablation.py`` leaves the counts of each patient at every threshold beside its runs (``thresholds.json``).  A fold is
scored at the threshold of the highest mean Dice over the patients of all other folds: no patient chooses its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_score import CaseCounts, FoldRecord

ENDING = ", threshold of the other folds"
Counted = Mapping[str, Any]  # a fold's thresholds.json: the thresholds, and by patient (tp, fp, fn) at each


def best(folds: Sequence[Counted]) -> int:
    """Which threshold has the highest mean Dice over the patients of some folds."""
    if any(fold["thresholds"] != folds[0]["thresholds"] for fold in folds):
        raise SystemExit("the folds were counted at different thresholds")
    patients = [patient for fold in folds for patient in fold["cases"].items()]
    dice = [[CaseCounts(case, *counts, 0).dice for counts in at] for case, at in patients]
    return int(np.argmax(np.mean(dice, axis=0)))


def chosen_elsewhere(folders: Sequence[Path], records: Sequence[FoldRecord]) -> list[FoldRecord]:
    """A record more for each fold whose counts are there, where another fold of its system and seed has them too."""
    curves: dict[tuple[str, int, int], Counted] = {}
    for folder in folders:
        for record in records:
            name = f"fold{record.fold}-seed{record.seed}"
            path = folder / "runs" / record.system / name / "thresholds.json"
            if path.is_file():
                curves[record.system, record.seed, record.fold] = json.loads(path.read_text("utf-8"))
    found = []
    for record in records:
        own = curves.get((record.system, record.seed, record.fold))
        others = [values for (system, seed, fold), values in curves.items()
                  if (system, seed) == (record.system, record.seed) and fold != record.fold]  # fmt: skip
        if own is None or not others:
            continue
        if own["thresholds"] != others[0]["thresholds"]:
            raise SystemExit(f"the folds of {record.system} were counted at different thresholds")
        chosen = best(others)
        cases = [CaseCounts(case.case, *own["cases"][case.case][chosen], case.slices) for case in record.cases]
        settings = {**record.settings, "threshold": own["thresholds"][chosen]}
        found.append(replace(record, system=record.system + ENDING, cases=tuple(cases), settings=settings))
    return found

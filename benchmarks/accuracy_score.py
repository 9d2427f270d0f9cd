"""What is counted of each held-out patient, the same for every system, and the files that hold it.

One file a fold, ``OUT/SYSTEM/fold0.json`` (``fold0-seed1.json`` for a seed above 0): who was held out, how many pixels
of each patient were found, invented and missed over all slices, and what it cost.  Dice is worked out from the counts,
so that no system can be scored by another rule.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lungseg.metrics import dice_of_counts
from lungseg.records import write_json


@dataclass(frozen=True)
class CaseCounts:
    """Pixels of one patient over all its slices, on the grid of the stack.

    Args:
        case: name of the patient, as in the tree.
        tp, fp, fn: pixels of tumour that were found, invented, missed.
        slices: how many slices were scored.
    """

    case: str
    tp: int
    fp: int
    fn: int
    slices: int

    @property
    def truth_pixels(self) -> int:
        return self.tp + self.fn

    @property
    def dice(self) -> float:
        """Hard Dice of the patient, by the rule of :func:`lungseg.metrics.dice_of_counts` for empty masks."""
        return dice_of_counts(self.tp, self.truth_pixels, self.tp + self.fp)

    @property
    def missed(self) -> bool:
        """There is tumour, and not one pixel of it was found."""
        return self.truth_pixels > 0 and self.tp == 0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "truth_pixels": self.truth_pixels, "dice": round(self.dice, 6)}


@dataclass(frozen=True)
class FoldRecord:
    """One fold of one system, read from its file.

    Args:
        system: its name in the tables.
        fold: which fold was held out.
        seed: of the training.
        cases: the held-out patients.
        seconds: by the clock: ``prepare``, ``train``, ``predict`` and ``total``, everything after installation.
        machine: what it ran on, ``device`` first of all.
        settings: what decides the result besides seed and fold.
    """

    system: str
    fold: int
    seed: int
    cases: tuple[CaseCounts, ...]
    seconds: Mapping[str, float]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]


def counts(truth: np.ndarray, predicted: np.ndarray) -> tuple[int, int, int]:
    """``tp, fp, fn`` of masks of any equal shape; all but 0 is tumour."""
    if truth.shape != predicted.shape:
        raise SystemExit(f"truth {truth.shape} and prediction {predicted.shape} are not on one grid")
    true, found = truth > 0, predicted > 0
    tp = int(np.count_nonzero(true & found))
    return tp, int(np.count_nonzero(found)) - tp, int(np.count_nonzero(true)) - tp


def by_patient(slices: Iterable[tuple[str, tuple[int, int, int]]]) -> list[CaseCounts]:
    """Sum slices up to patients.

    Args:
        slices: name of the patient, and ``tp, fp, fn`` of one slice.
    """
    sums: dict[str, list[int]] = {}
    for case, slice_counts in slices:
        total = sums.setdefault(case, [0, 0, 0, 0])
        for place, number in enumerate((*slice_counts, 1)):
            total[place] += number
    return [CaseCounts(case, *total) for case, total in sorted(sums.items())]


def record_path(out: Path, system: str, fold: int, seed: int) -> Path:
    """Where a fold's record lies."""
    return out / system / f"fold{fold}{f'-seed{seed}' if seed else ''}.json"


def write_record(out: Path, record: FoldRecord) -> Path:
    """Write one fold; its patients must be those that the fold holds out, which the caller checks with `held_out`."""
    path = record_path(out, record.system, record.fold, record.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {
        "system": record.system, "fold": record.fold, "seed": record.seed, "date": datetime.date.today().isoformat(),
        "dice_mean": round(sum(case.dice for case in record.cases) / len(record.cases), 6),
        "seconds": {name: round(value, 2) for name, value in record.seconds.items()},
        "machine": dict(record.machine), "settings": dict(record.settings),
        "cases": [case.as_dict() for case in record.cases],
    })  # fmt: skip
    return path


def read_record(path: Path) -> FoldRecord:
    """Read one fold; the counts are what is used, a Dice that stands beside them is not."""
    values = json.loads(path.read_text("utf-8"))
    cases = tuple(
        CaseCounts(*(case[name] for name in ("case", "tp", "fp", "fn", "slices"))) for case in values["cases"]
    )
    if len({case.case for case in cases}) != len(cases):
        raise SystemExit(f"{path} names a patient twice")
    return FoldRecord(values["system"], values["fold"], values.get("seed", 0), cases, values["seconds"],
                      values["machine"], values.get("settings", {}))  # fmt: skip


def read_records(folders: Sequence[Path]) -> list[FoldRecord]:
    """All folds below some folders, each once.

    Raises:
        SystemExit: a fold of a system stands there twice, or two systems were scored on other truths or slices.
    """
    records = [read_record(path) for folder in folders for path in sorted(folder.glob("*/fold*.json"))]
    seen: set[tuple[str, int, int]] = set()
    truth: dict[str, tuple[int, int, str]] = {}
    for record in records:
        key = (record.system, record.fold, record.seed)
        if key in seen:
            raise SystemExit(f"{record.system}, fold {record.fold}, seed {record.seed} stands there twice")
        seen.add(key)
        for case in record.cases:
            size = (case.truth_pixels, case.slices)
            *known, other = truth.setdefault(case.case, (*size, record.system))
            if tuple(known) != size:
                raise SystemExit(
                    f"{case.case}: {record.system} has {size} pixels and slices, {other} has {tuple(known)}"
                )
    return records


def held_out(tree: Path, fold: int) -> tuple[list[str], list[str]]:
    """Patients that a fold trains on and holds out, from nnU-Net's ``splits_final.json`` in the tree."""
    splits = json.loads((tree / "splits_final.json").read_text("utf-8"))
    if not 0 <= fold < len(splits):
        raise SystemExit(f"there is no fold {fold}: {tree / 'splits_final.json'} has {len(splits)}")
    train, val = sorted(splits[fold]["train"]), sorted(splits[fold]["val"])
    if set(train) & set(val):
        raise SystemExit(f"fold {fold} trains on patients that it holds out: {sorted(set(train) & set(val))}")
    return train, val


def check_patients(cases: Sequence[CaseCounts], val: Sequence[str]) -> None:
    """All the held-out patients and nobody else were scored."""
    if sorted(case.case for case in cases) != sorted(val):
        raise SystemExit(f"scored {sorted(case.case for case in cases)} where {sorted(val)} are held out")

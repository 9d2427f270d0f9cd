"""The same predictions with the settings that the patients of the other folds choose, as `crossval` does for `predict`.

``ablation.py`` leaves beside its runs what each patient's Dice comes from at every threshold and smallest share
(``settings.json``).  A fold is scored at the setting of the highest mean Dice over the patients of all other folds, by
lungseg's own `tuning`: no patient chooses its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import accuracy_score as score
import numpy as np

from lungseg.probability_map import levels_of
from lungseg.tuning import SMALLEST_SHARES, CaseCounts, choose, count

ENDING = ", settings of the other folds"
FILE = "settings.json"


def counted(case: str, truth: np.ndarray, probability: np.ndarray) -> CaseCounts:
    """What a patient's Dice comes from at every setting; volumes mean nothing in a stack with gaps.

    Args:
        case: name of the patient.
        truth: ``[n, H, W]``, tumour where it is not 0.
        probability: float, the same shape.
    """
    return count(case, truth, levels_of(probability), 1.0, smallest_ml=(0.0,))


def write(path: Path, cases: Sequence[CaseCounts]) -> None:
    """``settings.json`` of a fold."""
    plain = {
        case.case: {"truth": case.truth, "overlap": case.overlap[:, 0].tolist(), "found": case.found[:, 0].tolist()}
        for case in cases
    }
    settings = {"thresholds": cases[0].thresholds, "smallest_shares": cases[0].smallest_shares}
    path.write_text(json.dumps({**settings, "cases": plain}))


def read(path: Path) -> list[CaseCounts]:
    """The inverse of :func:`write`, without shares that are no longer tried."""
    values = json.loads(path.read_text("utf-8"))
    shares = tuple(share for share in values["smallest_shares"] if share <= SMALLEST_SHARES[-1])
    settings, kept = (tuple(values["thresholds"]), (0.0,), shares), len(shares)
    return [
        CaseCounts(
            case, one["truth"], *(np.array(one[name])[:, None, :kept] for name in ("overlap", "found")), *settings
        )
        for case, one in values["cases"].items()
    ]


def chosen_elsewhere(folders: Sequence[Path], records: Sequence[score.FoldRecord]) -> list[score.FoldRecord]:
    """A record more for each fold whose counts are there, where another fold of its system and seed has them too."""
    known: dict[tuple[str, int, int], list[CaseCounts]] = {}
    for folder in folders:
        for record in records:
            path = folder / "runs" / record.system / f"fold{record.fold}-seed{record.seed}" / FILE
            if path.is_file():
                known[record.system, record.seed, record.fold] = read(path)
    found = []
    for record in records:
        own = known.get((record.system, record.seed, record.fold))
        others = [case for (system, seed, fold), cases in known.items() for case in cases
                  if (system, seed) == (record.system, record.seed) and fold != record.fold]  # fmt: skip
        if own is None or not others:
            continue
        if len({(case.thresholds, case.smallest_shares) for case in [*own, *others]}) > 1:
            raise SystemExit(f"the folds of {record.system} were counted at different settings")
        found.append(at_setting(record, own, others))
    return found


def at_setting(record: score.FoldRecord, own: Iterable[CaseCounts], others: Iterable[CaseCounts]) -> score.FoldRecord:
    """The fold's patients at the setting that the others choose."""
    setting, by_name = choose(others), {case.case: case for case in own}
    cases = []
    for case in record.cases:
        one = by_name[case.case]
        at = one.thresholds.index(setting.threshold), 0, one.smallest_shares.index(setting.smallest_share)
        overlap, found = int(one.overlap[at]), int(one.found[at])
        cases.append(score.CaseCounts(case.case, overlap, found - overlap, one.truth - overlap, case.slices))
    settings: Mapping[str, Any] = {
        **record.settings, "threshold": setting.threshold, "smallest_share": setting.smallest_share
    }  # fmt: skip
    return replace(record, system=record.system + ENDING, cases=tuple(cases), settings=settings)

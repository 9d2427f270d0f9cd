"""Patients to folds: who is trained on, who chooses the checkpoint, who is held out for the evaluation.

A case is a patient.  The default folds are nnU-Net's own (Isensee et al. 2021,
https://doi.org/10.1038/s41592-020-01008-z): scikit-learn's shuffled ``KFold`` over the sorted names.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import LungsegError, UsageError
from .records import read_json, write_json

KFOLD_SEED = 12345  # nnU-Net's `generate_crossval_split`
VERSION = 1
_SHAPE = 'a list of {"train": [names], "val": [names]}, as in nnU-Net\'s splits_final.json'


@dataclass(frozen=True)
class Fold:
    """One way to part the patients; ``val`` is held out for the evaluation."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """The patients of one training run; the three groups have nobody in common.

    Args:
        fold: which of ``folds`` this is.
        train: patients to train on, sorted.
        inner_val: patients taken out of the fold's training ones to choose the checkpoint, sorted; may be empty.
        held_out: patients for ``evaluate`` alone, sorted.
        folds: all folds, before the inner validation patients are taken out.
        source: where the folds come from, in words.
    """

    fold: int
    train: tuple[str, ...]
    inner_val: tuple[str, ...]
    held_out: tuple[str, ...]
    folds: tuple[Fold, ...]
    source: str

    @property
    def n_folds(self) -> int:
        return len(self.folds)

    def __post_init__(self) -> None:
        for first, second in (("train", "held_out"), ("train", "inner_val"), ("inner_val", "held_out")):
            _check_disjoint(getattr(self, first), getattr(self, second), f"the {first} and {second} patients")

    def write(self, path: str | Path) -> None:
        """Write it as JSON; ``read`` gives it back and ``read_splits`` takes its folds."""
        write_json(path, {"version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, path: str | Path) -> Split:
        """The split that ``write`` wrote.

        Raises:
            UsageError: the file is missing, no such JSON, or a patient stands in two groups.
        """
        value = read_json(path, mend="Take the run's folder from where it came from again, or train again.")
        version = value.get("version") if isinstance(value, dict) else None
        if type(version) is int and version > VERSION:
            raise _bad(path, "was written by a later version of lungseg; update it", f"version {VERSION}", version)
        if not isinstance(value, dict) or value.get("version") != VERSION:
            raise _bad(path, "is no splits.json of this version", f'an object with "version": {VERSION}', value)
        fold, source = value.get("fold"), value.get("source")
        if type(fold) is not int or not isinstance(source, str):
            raise _bad(path, "lacks the fold's number or its source", 'integer "fold", text "source"', (fold, source))
        train, inner, held_out = (
            _names(value.get(key), path, key, empty=key == "inner_val") for key in ("train", "inner_val", "held_out")
        )
        folds = _folds(value.get("folds"), path)
        try:
            return cls(fold, train, inner, held_out, folds, source)
        except UsageError as error:
            raise UsageError(error.problem.at(file=path)) from error


def k_fold(cases: Iterable[str], n_folds: int = 5) -> list[Fold]:
    """Folds of the sorted ``cases``; where there are fewer cases than folds, each case is a fold of its own.

    Args:
        cases: names of the labelled cases, in any order.
        n_folds: at least 2.

    Raises:
        UsageError: fewer than two cases or folds.
    """
    names = sorted(set(cases))
    if n_folds < 2:
        raise UsageError.of("folds", "too few folds", expected="2 or more", found=str(n_folds))
    if len(names) < 2:
        raise UsageError.of(
            "too-few-cases",
            "too few labelled patients to hold one out",
            expected="2 or more, better 5 or more",
            found=f"{len(names)} ({', '.join(names) or 'none'})",
            mend="Preprocess more labelled scans into the same folder, then train again.",
        )
    if len(names) < n_folds:
        return [Fold(tuple(n for n in names if n != held_out), (held_out,)) for held_out in names]
    from sklearn.model_selection import KFold

    parts = KFold(n_folds, shuffle=True, random_state=KFOLD_SEED).split(names)
    return [Fold(tuple(names[i] for i in train), tuple(names[i] for i in val)) for train, val in parts]


def read_splits(path: str | Path, cases: Iterable[str] | None) -> list[Fold]:
    """Folds from nnU-Net's ``splits_final.json`` or from a run's ``splits.json``.

    Args:
        path: the file.
        cases: names of the labelled cases there are; None takes any name.

    Raises:
        UsageError: the file is missing or not of that form; a patient is in train and val of one fold, twice in one
            list, or not among ``cases``.
    """
    value = read_json(path)
    folds = _folds(value.get("folds") if isinstance(value, dict) else value, path)
    named = {name for fold in folds for name in fold.train + fold.val}
    known = named if cases is None else set(cases)
    missing = sorted(named - known)
    if missing:
        raise UsageError.of(
            "unknown-case",
            "names patients that are not among the labelled cases of the preprocessed folder",
            expected=f"some of the {len(known)} labelled cases",
            found=f"{len(missing)} unknown: {', '.join(missing)}",
            mend="Preprocess those scans as well, or take their names out of the file.",
            file=path,
        )
    return list(folds)


def make_split(
    cases: Iterable[str],
    *,
    fold: int = 0,
    n_folds: int = 5,
    splits: str | Path | None = None,
    inner_val: float = 0.15,
    seed: int = 0,
) -> Split:
    """Decide who is trained on, who chooses the checkpoint and who is held out.

    Args:
        cases: names of the labelled cases.
        fold: which fold, from 0.
        n_folds: how many folds (without ``splits``).
        splits: a file with the folds (see :func:`read_splits`) instead of the default ones.
        inner_val: share of the fold's training patients set aside, 0 to below 1; rounded up, at least one patient is
            left to train on.
        seed: draws those patients.

    Raises:
        UsageError: there is no such fold, the share is out of range, or the folds can not be made or read.
    """
    names = sorted(set(cases))
    if not 0.0 <= inner_val < 1.0:
        raise UsageError.of(
            "inner-val", "the inner validation share is out of range", expected="0 to below 1", found=str(inner_val)
        )
    if splits is None:
        folds = k_fold(names, n_folds)
        source = f"KFold({n_folds}, shuffle=True, random_state={KFOLD_SEED})"
        if len(folds) < n_folds:
            source = "each case a fold of its own"
    else:
        folds = read_splits(splits, names)
        source = f"file {Path(splits).name}"
    if not 0 <= fold < len(folds):
        raise UsageError.of("no-such-fold", "there is no such fold", expected=f"0 to {len(folds) - 1}", found=str(fold))
    chosen = folds[fold]
    inner = _draw(chosen.train, inner_val, seed)
    return Split(
        fold=fold,
        train=tuple(sorted(set(chosen.train) - set(inner))),
        inner_val=inner,
        held_out=tuple(sorted(chosen.val)),
        folds=tuple(folds),
        source=source,
    )


def _draw(train: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """The inner validation patients: those whose name has the lowest hash with the seed.

    The draw of one patient does not depend on who else is there, nor on the version of a random generator.
    """
    # A product such as 0.15 * 20 = 3.0000000000000004 must not become 4 patients.
    count = min(math.ceil(round(share * len(train), 9)), len(train) - 1)
    ranked = sorted(
        train, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
    )
    return tuple(sorted(ranked[:count]))


def _folds(value: Any, path: str | Path) -> tuple[Fold, ...]:
    if not isinstance(value, list) or not value:
        raise _bad(path, "holds no list of folds", _SHAPE, value)
    folds = []
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise _bad(path, f"fold {number} is no object", _SHAPE, item)
        train, val = (_names(item.get(key), path, f"{key} of fold {number}", empty=False) for key in ("train", "val"))
        try:
            _check_disjoint(train, val, f"train and val of fold {number}")
        except UsageError as error:
            raise UsageError(error.problem.at(file=path)) from error
        folds.append(Fold(train, val))
    return tuple(folds)


def _names(value: Any, path: str | Path, what: str, *, empty: bool = True) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _bad(path, f"{what} is no list of names", _SHAPE, value)
    if not value and not empty:
        raise _bad(path, f"{what} is empty", "at least one name", value)
    twice = sorted({name for name in value if value.count(name) > 1})
    if twice:
        raise _bad(path, f"{what} names patients more than once", "each name once", ", ".join(twice))
    return tuple(value)


def _check_disjoint(first: Sequence[str], second: Sequence[str], what: str) -> None:
    both = sorted(set(first) & set(second))
    if both:
        raise UsageError.of(
            "patient-in-both",
            f"{what} have patients in common",
            expected="none",
            found=", ".join(both),
            mend="Take each patient out of one of the two lists: a patient seen in training must not be scored.",
        )


def _bad(path: str | Path, what: str, expected: str, found: Any) -> LungsegError:
    text = found if isinstance(found, str) else repr(found)
    short = text if len(text) <= 200 else f"{text[:200]}..."
    return UsageError.of("bad-splits", what, expected=expected, found=short, file=path)

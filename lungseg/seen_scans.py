"""The scans that a network was trained on, by their files' hashes: its masks of those say nothing of other patients."""

from __future__ import annotations

from pathlib import Path

from .crossval_folder import is_crossval, processed_of, read_chosen, read_folds
from .errors import LungsegError, Problem
from .manifest import Manifest
from .prediction_record import TRAINED_ON
from .run_folder import SPLITS, processed_folder
from .splits import Split


def trained_on(run: str | Path) -> dict[str, str]:
    """The scans that decided the weights of a run, or of the folds that ``predict`` uses.

    Args:
        run: folder of a run, or anything else that has weights.

    Returns:
        Case names by the hash of the scan's file; empty where that is not known, because the slices are not there any
        more, or the weights are exported ones, which name no patient.
    """
    run = Path(run)
    if not run.is_dir():
        return {}
    try:
        if is_crossval(run):
            folds, manifest = read_folds(run)[0], Manifest.read(processed_of(run))
            cases = {case for number in read_chosen(run).folds for case in folds[number].train}
        else:
            split, manifest = Split.read(run / SPLITS), Manifest.read(processed_folder(run))
            cases = {*split.train, *split.inner_val}
    except (LungsegError, IndexError):
        return {}
    records = {case: manifest.cases[case] for case in sorted(cases) if case in manifest.cases}
    return {str(record.source.get("image_hash")): case for case, record in records.items()}


def trained_on_warning(hash_: str, seen: dict[str, str], file: Path) -> list[Problem]:
    """A warning where the scan is one of those; ``hash_`` is of its file."""
    if hash_ not in seen:
        return []
    what = f"is a scan that the network was trained on ({seen[hash_]})"
    mend = "Its mask says nothing of how well others are found: `lungseg evaluate` scores held-out patients."
    return [Problem(TRAINED_ON, what, "", "", mend, str(file), severity="warning")]

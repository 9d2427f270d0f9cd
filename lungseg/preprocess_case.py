"""One scan, with its label, to its finished folder: read, checked, sliced, unless all of that is there already."""

from __future__ import annotations

import threading
from pathlib import Path

from .case_files import remove_stale
from .case_folder import slice_case
from .case_record import CASE_RECORD, CaseRecord
from .config import PreprocessConfig, to_dict
from .digests import digest
from .errors import DataError, LungsegError, Problem
from .manifest import settings_from
from .memory import Room
from .nifti import read_label, read_scan
from .pairs import check_pair, hu_warnings
from .publish import new_case
from .records import read_json, write_json
from .tree import Case


class _Rooms(threading.local):
    """Memory for a scan and its label, kept by a worker (or the one process that there is) from case to case."""

    def __init__(self) -> None:
        self.image, self.label = Room(), Room()


_ROOMS = _Rooms()


def preprocess_case(
    case: Case, out: Path, config: PreprocessConfig, image_file: str, label_file: str | None, *, shared: bool
) -> tuple[CaseRecord, bool, list[Problem]]:
    """Slice one case, unless it is there already; its record is written last.

    Args:
        case: the scan and its label.
        out: the folder of all cases.
        config: the settings.
        image_file: what the record calls the scan.
        label_file: what it calls the label; None without one.
        shared: whether another process may be at work on the same case.

    Returns:
        The case's record, whether it was there already, and what is odd about the case.

    Raises:
        DataError: the scan or its label can not be used.
        MachineError: the disk is full or can not be written.
    """
    folder = out / case.name
    image = read_scan(case.image, _ROOMS.image)
    label = None if case.label is None else read_label(case.label, _ROOMS.label)
    if label is not None:
        check_pair(image, label)
    source = {"image": image_file, "image_bytes": image.bytes, "image_hash": image.hash}
    if label is not None:
        source |= {"label": label_file, "label_bytes": label.bytes, "label_hash": label.hash}
    warned = [*image.warnings, *hu_warnings(image)]
    named = [problem.at(case=case.name) for problem in warned]
    there = _whole(folder, source, config)
    if there is not None:
        return there, True, [*named, *_tumour_warnings(there, case)]
    (folder / CASE_RECORD).unlink(missing_ok=True)
    with new_case(folder, shared=shared) as made:
        record = slice_case(made, image, label, source, config, tuple(sorted(p.code for p in warned)))
        write_json(made / CASE_RECORD, {"settings": to_dict(config), "case": record.as_dict()}, durable=False)
    return record, False, [*named, *_tumour_warnings(record, case)]


def give_back_memory() -> None:
    """Let go of what this thread keeps from case to case; a worker's goes with it."""
    _ROOMS.image.clear()
    _ROOMS.label.clear()


def _whole(folder: Path, source: dict[str, object], config: PreprocessConfig) -> CaseRecord | None:
    """The record of a case that is finished, from the same files, with the same settings, and undamaged; or None."""
    path = folder / CASE_RECORD
    if not path.is_file():
        return None
    try:
        content = read_json(path, error=DataError)
        if settings_from(content["settings"], path) != config or content["case"]["source"] != source:
            return None
        record = CaseRecord.from_dict(content["case"], file=path)
        for name, expected in record.hashes.items():
            if digest((folder / name).read_bytes()) != expected:
                return None
    except (LungsegError, OSError, KeyError, TypeError):
        return None
    remove_stale(folder, {*record.hashes, CASE_RECORD})
    return record


def _tumour_warnings(record: CaseRecord, case: Case) -> list[Problem]:
    """A label without tumour, or tumour in the slices that were dropped."""

    def warning(code: str, what: str, expected: str, found: str, mend: str) -> Problem:
        return Problem(code, what, expected, found, mend, str(case.label), case.name, severity="warning")

    if record.labelled and record.tumour_voxels == 0:
        return [warning("no-tumour", "the label shows no tumour", "at least one voxel of 1", "0", "Check the label.")]
    if record.tumour_voxels_skipped:
        return [
            warning(
                "tumour-skipped",
                "tumour lies in skipped slices and counts as missed at evaluation",
                "0 voxels",
                f"{record.tumour_voxels_skipped} of {record.tumour_voxels} voxels",
                "Use a smaller --skip-slices, or `--skip-slices auto`.",
            )
        ]
    return []

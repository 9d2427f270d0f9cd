"""Scans to slices: the stage behind ``lungseg preprocess``, and the one way in which a slice is made anywhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .case_folder import remove_case, remove_stale, slice_case
from .case_record import CASE_RECORD, CaseRecord
from .cluster import cluster_executor
from .config import PreprocessConfig, to_dict
from .digests import digest
from .errors import DataError, LungsegError, Problem, UsageError, all_failed, counted
from .executor import cores, gather, run_cases, worth_workers
from .files import clear_temporary, make_folder, require_free_space
from .folder_lock import LOCK_NAME, folder_lock
from .manifest import Manifest, settings_from
from .memory import Room
from .nifti import read_label, read_scan
from .pairs import check_pair, hu_warnings, same_scans
from .place import is_remote, place
from .preprocess_folder import clear_others, recorded_slice_sets, refuse_elsewhere, refuse_others
from .progress import progress
from .publish import new_case
from .records import read_json, write_json
from .slicing import check_skip
from .tree import Case, Tree, read_tree

STAGE = "preprocess"


class _Rooms(threading.local):
    """Memory for a scan and its label, kept by a worker (or the one process that there is) from case to case."""

    def __init__(self) -> None:
        self.image, self.label = Room(), Room()


_ROOMS = _Rooms()


@dataclass(frozen=True)
class Preprocessed:
    """What ``preprocess`` did.

    Args:
        manifest: the record of the folder.
        problems: what kept cases out, and what was odd about others.
        reused: cases that were already there and whole.
        exit_code: of the worst error; 0 where there are at most warnings.
    """

    manifest: Manifest
    problems: tuple[Problem, ...]
    reused: tuple[str, ...]
    exit_code: int = 0


@dataclass(frozen=True)
class _Task:
    case: Case
    out: Path
    config: PreprocessConfig
    image_file: str
    label_file: str | None
    shared: bool = False


def preprocess(
    root: str | Path,
    out: str | Path,
    *,
    size: int = PreprocessConfig.size,
    skip_slices: str | int = PreprocessConfig.skip_slices,
    workers: int | None = None,
    rebuild: bool = False,
    slice_sets: bool | None = None,
    cluster: str | None = None,
) -> Preprocessed:
    """Cut every scan of a tree into slices that a network can be trained on.

    Writes ``OUT/<case>/images/<zzz>.npy`` (float16 [size, size], HU clipped to [-1000, 3071] and divided by 3071),
    ``OUT/<case>/masks/<zzz>.npy`` (uint8 0/1, labelled cases only) and ``OUT/manifest.json``.  ``zzz`` is the slice's
    index in the L-A-S scan; row 0 is the patient's front, column 0 the patient's right.  Run again, it takes what is
    whole as done and makes the rest.

    Args:
        root: the data, in one of the layouts of :mod:`lungseg.tree`; never changed.
        out: the folder to write; may be the same that an interrupted run wrote.
        size: rows and columns of a slice.
        skip_slices: axial slices to drop at the feet end: a number, ``"12.5mm"``, or ``"auto"``.
        workers: processes; None takes one for each core, or threads of this one where the scans are few.
        rebuild: make everything again where ``out`` was made with other settings or from other cases.
        slice_sets: whether the stacks have gaps, because slices were chosen out of scans: evaluations of them then
            leave out distances, volumes and lesions; None is what ``out`` says already, or that they are whole scans.
        cluster: address of a Dask scheduler whose workers do it, in place of processes here (``docs/clusters.md``).

    Raises:
        UsageError: an argument can not be meant, or ``out`` was made with other settings.
        DataError: no case at all could be preprocessed.
        MachineError: another process writes to ``out``, or the disk is full.
    """
    config = PreprocessConfig(size=size, skip_slices=check_skip(str(skip_slices)))
    if not 8 <= size <= 4096:
        raise UsageError.of("bad-size", "the slice size can not be meant", expected="8 to 4096", found=str(size))
    tree, out = read_tree(root), place(out)
    refuse_elsewhere(out, tree)
    if out.is_dir() and not (out / LOCK_NAME).exists() and not rebuild:
        refuse_others(out, config, tree)  # a folder of somebody else's is left as it is, without a lock file
    make_folder(out)
    there = cluster_executor(cluster, names=(tree.root, out))
    with folder_lock(out, stage=STAGE), _rooms_cleared(), there as executor:
        if not rebuild:
            refuse_others(out, config, tree)
        # A finished slice set takes about 1.5 bytes a pixel more than nothing; packed scans about as much as that.
        sizes = {case.name: case.image.stat().st_size for case in tree.cases}
        if not is_remote(out):
            missing = sum(bytes_ for name, bytes_ in sizes.items() if not (out / name / CASE_RECORD).exists())
            require_free_space(out, missing // 2, stage=STAGE)
        tasks = {case.name: _task(case, tree, out, config, shared=executor is not None) for case in tree.cases}
        threads = 1 if workers else cores()
        workers = workers or worth_workers(sizes.values())
        outcomes = run_cases(_one_case, tasks, workers=workers, threads=threads, executor=executor)
        done = gather(progress(outcomes, what="slicing", total=len(tasks)))
        if executor is not None and not is_remote(out):
            clear_temporary(out)  # of workers that died; another has done their cases
        # A disk or store that is gone for a while says nothing of a case that was finished before.
        finished = {case for case in done.by_machine if (out / case / CASE_RECORD).exists()}
        for case in set(tasks) - set(done.results) - finished:
            remove_case(out / case)
        records = {case: record for case, (record, _, _) in done.results.items()}
        reused = [case for case, (_, was_there, _) in done.results.items() if was_there]
        problems = [*tree.problems, *done.problems]
        problems += [problem for _, _, warned in done.results.values() for problem in warned]
        hashes = {case: str(record.source["image_hash"]) for case, record in records.items()}
        problems += same_scans(hashes, {case: str(tasks[case].case.image) for case in hashes})
        problems.sort(key=lambda problem: (problem.case, problem.file, problem.code))
        code = max(done.exit_code, tree.exit_code)
        clear_others(out, set(records) | finished)
        if not records:
            raise all_failed(problems, code, STAGE)
        failed = {problem.case or problem.file: problem.what for problem in problems if problem.severity == "error"}
        stacks = recorded_slice_sets(out) if slice_sets is None else slice_sets
        manifest = Manifest(out, config, records, _below(failed, tree), stacks)
        manifest.write()
    return Preprocessed(manifest, tuple(problems), tuple(reused), code)


@contextlib.contextmanager
def _rooms_cleared() -> Iterator[None]:
    """Give the memory back at the end, where this process is more than a worker; threads give theirs when they end."""
    try:
        yield
    finally:
        _ROOMS.image.clear()
        _ROOMS.label.clear()


def _task(case: Case, tree: Tree, out: Path, config: PreprocessConfig, *, shared: bool) -> _Task:
    label_file = None if case.label is None else tree.relative(case.label)
    return _Task(case, out, config, tree.relative(case.image), label_file, shared)


def _one_case(task: _Task) -> tuple[CaseRecord, bool, list[Problem]]:
    """Slice one case, unless it is there already; its record is written last."""
    folder = task.out / task.case.name
    image = read_scan(task.case.image, _ROOMS.image)
    label = None if task.case.label is None else read_label(task.case.label, _ROOMS.label)
    if label is not None:
        check_pair(image, label)
    source = {"image": task.image_file, "image_bytes": image.bytes, "image_hash": image.hash}
    if label is not None:
        source |= {"label": task.label_file, "label_bytes": label.bytes, "label_hash": label.hash}
    warned = [*image.warnings, *hu_warnings(image)]
    there = _whole(folder, source, task.config)
    if there is not None:
        return there, True, [*_named(warned, task), *_tumour_warnings(there, task)]
    (folder / CASE_RECORD).unlink(missing_ok=True)
    with new_case(folder, shared=task.shared) as made:
        record = slice_case(made, image, label, source, task.config, tuple(sorted(p.code for p in warned)))
        write_json(made / CASE_RECORD, {"settings": to_dict(task.config), "case": record.as_dict()}, durable=False)
    return record, False, [*_named(warned, task), *_tumour_warnings(record, task)]


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


def _named(problems: list[Problem], task: _Task) -> list[Problem]:
    return [problem.at(case=task.case.name) for problem in problems]


def _tumour_warnings(record: CaseRecord, task: _Task) -> list[Problem]:
    """A label without tumour, or tumour in the slices that were dropped."""

    def warning(code: str, what: str, expected: str, found: str, mend: str) -> Problem:
        return Problem(code, what, expected, found, mend, str(task.case.label), task.case.name, severity="warning")

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


def _below(failed: dict[str, str], tree: Tree) -> dict[str, str]:
    """Case names only: a manifest holds no path of the user's machine."""
    return {Path(name).name or tree.root.name: what for name, what in failed.items()}


def summary(done: Preprocessed) -> str:
    """What was done, as text for a person: problems first, counts last."""
    records = done.manifest.cases.values()
    slices = sum(len(record.slices) for record in records)
    shown = sum(pixels > 0 for record in records for pixels in record.tumour_pixels)
    labelled = sum(record.labelled for record in records)
    lines = [f"{problem.severity}: {problem}" for problem in done.problems]
    reused = f" ({len(done.reused)} were there already)" if done.reused else ""
    lines.append(
        f"{counted(len(records), 'case')}{reused}, {labelled} labelled: {counted(slices, 'slice')}, {shown:,} of them "
        f"with tumour; {counted(len(done.manifest.failed), 'case')} failed"
    )
    return "\n".join(lines)

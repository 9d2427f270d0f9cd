"""Scans to slices: the stage behind ``lungseg preprocess``.

This module is imported without numpy and OpenCV, which take a third of a second: whoever does a case imports them, and
a process that leaves all cases to workers starts these at once.  That they can not be imported is found only then.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .case_files import remove_case
from .case_record import CASE_RECORD, CaseRecord
from .cluster import cluster_executor
from .config import PreprocessConfig
from .errors import Problem, UsageError, all_failed, counted
from .executor import cores, gather, run_cases, worth_workers
from .files import clear_temporary, make_folder, require_free_space
from .folder_lock import LOCK_NAME, folder_lock
from .manifest import Manifest
from .place import is_remote, place
from .preprocess_folder import clear_others, recorded_slice_sets, refuse_elsewhere, refuse_others
from .progress import progress
from .same_scans import same_scans
from .skip_slices import check_skip
from .tree import Case, Tree, read_tree

STAGE = "preprocess"


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
    with folder_lock(out, stage=STAGE), there as executor:
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
        try:
            done = gather(progress(outcomes, what="slicing", total=len(tasks)))
        finally:
            _give_back_memory()
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


def _task(case: Case, tree: Tree, out: Path, config: PreprocessConfig, *, shared: bool) -> _Task:
    label_file = None if case.label is None else tree.relative(case.label)
    return _Task(case, out, config, tree.relative(case.image), label_file, shared)


def _one_case(task: _Task) -> tuple[CaseRecord, bool, list[Problem]]:
    from .preprocess_case import preprocess_case  # see the module

    return preprocess_case(task.case, task.out, task.config, task.image_file, task.label_file, shared=task.shared)


def _give_back_memory() -> None:
    """Of this thread, which may have done the cases and may go on with other things; that of others went with them."""
    module = sys.modules.get(f"{__name__}_case")
    if module is not None:  # else it did none
        module.give_back_memory()


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

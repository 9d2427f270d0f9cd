"""Check a whole tree of scans: every item, not only the first that is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .cluster import cluster_executor
from .errors import DataError, LungsegError, Problem, counted, printable
from .executor import gather, run_cases
from .nifti import read_label, read_scan
from .pairs import grid_problem, hu_warnings
from .place import place
from .progress import progress
from .records import check_record, write_json
from .same_scans import same_scans
from .tree import Case, read_tree

STAGE = "verify"


@dataclass(frozen=True)
class Verified:
    """What ``verify`` found.

    Args:
        root: the folder as the user named it.
        cases: names of all cases looked at, sorted.
        problems: everything that is wrong or odd, sorted by case.
        ignored: macOS ``._*`` files that were passed over.
    """

    root: Path
    cases: tuple[str, ...]
    problems: tuple[Problem, ...]
    ignored: int

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def exit_code(self) -> int:
        """0 where there are only warnings, 3 where anything is bad."""
        return DataError.exit_code if self.errors else 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "cases": list(self.cases),
            "ignored_macos_files": self.ignored,
            "errors": self.errors,
            "warnings": len(self.problems) - self.errors,
            "problems": [problem.as_dict() for problem in self.problems],
        }


def verify(
    root: str | Path,
    *,
    workers: int | None = None,
    json_file: str | Path | None = None,
    cluster: str | None = None,
) -> Verified:
    """Read every scan and label of a tree to its last byte, and check that they fit together.

    Args:
        root: the data, in one of the layouts of :mod:`lungseg.tree`.
        workers: processes; None takes one for each core.
        json_file: where to write the result as JSON.
        cluster: address of a Dask scheduler whose workers do it, in place of processes here (``docs/clusters.md``).

    Raises:
        UsageError: there is no such folder, or no scan in it, or ``json_file`` can not be written or lies in ``root``.
    """
    tree = read_tree(root)
    if json_file is not None:
        check_record(json_file, [root])
    tasks = {case.name: case for case in tree.cases}
    problems = list(tree.problems)
    with cluster_executor(cluster, names=(root,)) as executor:
        outcomes = run_cases(_one_case, tasks, workers=workers, executor=executor)
        done = gather(progress(outcomes, what="checking", total=len(tasks)))
    problems += done.problems
    for case, (found, _) in done.results.items():
        problems += [problem.at(case=case) for problem in found]
    hashes = {case: hash_ for case, (_, hash_) in done.results.items() if hash_}
    problems += same_scans(hashes, {case: str(tasks[case].image) for case in hashes})
    shown = [problem.at(file=_below(problem.file, tree.root)) for problem in problems]
    shown.sort(key=lambda problem: (problem.case, problem.file, problem.code))
    verified = Verified(tree.root, tuple(tasks), tuple(shown), tree.ignored)
    if json_file is not None:
        write_json(json_file, verified.as_dict())
    return verified


def table(verified: Verified) -> str:
    """What is wrong, as text: a block a case, errors and warnings marked, and a closing line with the counts."""
    lines = []
    for problem in verified.problems:
        lines.append(f"{problem.severity:<8} {printable(problem.case or '-'):<14} {problem}")
    warnings = len(verified.problems) - verified.errors
    ignored = f", {counted(verified.ignored, 'macOS ._ file')} ignored" if verified.ignored else ""
    counts = f"{counted(verified.errors, 'error')}, {counted(warnings, 'warning')}"
    lines.append(f"{counted(len(verified.cases), 'case')}: {counts}{ignored}")
    return "\n".join(lines)


def _one_case(case: Case) -> tuple[list[Problem], str]:
    """Everything that is wrong with one case, and its image's hash; a bad image keeps no label from being read."""
    problems: list[Problem] = []
    image = label = None
    try:
        image = read_scan(case.image)
        problems += [*image.warnings, *hu_warnings(image)]
    except LungsegError as error:
        problems.append(error.problem)
    if case.label is not None:
        try:
            label = read_label(case.label)
            problems += label.warnings
            if not np.any(label.voxels):
                problems.append(
                    Problem(
                        "no-tumour",
                        "the label shows no tumour",
                        "at least one voxel of 1",
                        "0",
                        "Check the label.",
                        str(case.label),
                        severity="warning",
                    )
                )
        except LungsegError as error:
            problems.append(error.problem)
    if image is not None and label is not None and (differing := grid_problem(image, label)) is not None:
        problems.append(differing)
    return problems, "" if image is None else image.hash


def _below(file: str, root: Path) -> str:
    """The file relative to the folder that was checked, where it lies below it."""
    try:
        return place(file).relative_to(root).as_posix() if file else ""
    except ValueError:
        return file

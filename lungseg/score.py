"""Measures of masks that any tool made, against labels: the stage behind ``lungseg score``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .case_score import CaseScore, score_case, write_csv
from .cluster import cluster_executor
from .errors import DataError, Problem, UsageError, all_failed, counted
from .executor import gather, run_cases
from .geometry import to_las
from .nifti import read_label
from .nifti_names import case_name
from .pairs import check_pair
from .patient_summary import over_patients, table
from .place import place
from .prediction_record import TRAINED_ON, warnings_of
from .progress import progress
from .records import check_record, write_json
from .tree import LABEL_SUFFIX, scans_of

STAGE = "score"


@dataclass(frozen=True)
class Scores:
    """What ``score`` measured.

    Args:
        cases: one a patient, sorted by name.
        summary: numbers over patients (see ``patient_summary.over_patients``).
        problems: what kept cases out, and what was passed over.
        exit_code: of the worst error; 0 where there are at most warnings.
    """

    cases: tuple[CaseScore, ...]
    summary: dict[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    exit_code: int = 0

    def __str__(self) -> str:
        lines = [f"{problem.severity}: {problem}" for problem in self.problems]
        return "\n".join([*lines, table(self.cases, self.summary)])


def score(
    predictions: str | Path,
    labels: str | Path,
    *,
    json_file: str | Path | None = None,
    csv_file: str | Path | None = None,
    workers: int | None = None,
    slice_sets: bool = False,
    cluster: str | None = None,
) -> Scores:
    """Measure masks against labels, on their own grid.

    Every label must have a prediction of its name (``lung_001.nii.gz``; ``lung_001_label.nii.gz`` is the same case); a
    case that is missing or bad is named, the others are measured, and no mean is given then: leaving out the failures
    would flatter it.  A prediction without a label is passed over, and said.

    Args:
        predictions: a mask, or a folder of masks: NIfTI, 0 and 1.
        labels: a label, or a folder of labels, such as ``labelsTr``.
        json_file: where to write the measures as JSON: a list of one object a patient.
        csv_file: where to write them as CSV.
        workers: processes; None takes one for each core.
        slice_sets: whether the stacks have gaps, so that distances, volumes and lesions are left out.
        cluster: address of a Dask scheduler whose workers do it, in place of processes here (``docs/clusters.md``).

    Raises:
        UsageError: a path is missing, or one is a file and the other a folder; both records are to be one file.
        DataError: no case at all could be measured.
    """
    for record in (json_file, csv_file):
        if record is not None:
            check_record(record, [labels, *([] if place(predictions).is_dir() else [predictions])])
    if json_file is not None and csv_file is not None and place(json_file).resolve() == place(csv_file).resolve():
        mend = "Give --json and --csv a file each."
        raise UsageError.of("same-file", "is named for two records", file=json_file, mend=mend)
    pairs, problems = _pairs(place(predictions), place(labels))
    code = DataError.exit_code if any(problem.severity == "error" for problem in problems) else 0
    work = partial(_one_case, slice_sets)
    with cluster_executor(cluster, names=(predictions, labels)) as executor:
        outcomes = run_cases(work, pairs, workers=workers, executor=executor)
        done = gather(progress(outcomes, what="scoring", total=len(pairs)))
    code = max(code, done.exit_code)
    flattered = [case for case in done.results if TRAINED_ON in warnings_of(pairs[case][1])]
    if flattered:
        what = f"{len(flattered)} of {counted(len(done.results), 'mask')} are of scans that the network was trained on"
        mend = "Their scores say nothing of other patients: `lungseg evaluate` scores held-out ones."
        some = ", ".join(flattered[:5]) + (", ..." if len(flattered) > 5 else "")
        problems.append(Problem(TRAINED_ON, what, "", some, mend, str(predictions), severity="warning"))
    problems = sorted([*problems, *done.problems], key=lambda problem: (problem.case, problem.file, problem.code))
    cases = list(done.results.values())
    if not cases:
        raise all_failed(problems, code, STAGE)
    scores = Scores(tuple(cases), over_patients(cases, complete=not code), tuple(problems), code)
    if json_file is not None:
        write_json(json_file, [score.as_dict() for score in cases])
    if csv_file is not None:
        write_csv(csv_file, cases)
    return scores


def _one_case(slice_set: bool, paths: tuple[str, Path, Path]) -> CaseScore:
    case, prediction_path, label_path = paths
    label, prediction = read_label(label_path), read_label(prediction_path)
    check_pair(label, prediction, ("label", "prediction"))
    truth, affine, _ = to_las(label.voxels, label.affine)  # so that its last axis is the axial one
    x, y, z = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    return score_case(case, truth, to_las(prediction.voxels, label.affine)[0], (x, y, z), slice_set=slice_set)


def _pairs(predictions: Path, labels: Path) -> tuple[dict[str, tuple[str, Path, Path]], list[Problem]]:
    """(case, prediction, label) by case, and what has no partner."""
    for path in (predictions, labels):
        if not path.exists():
            mend = "Name a mask and its label, or a folder of masks and one of labels."
            raise UsageError.of("missing-file", "there is no such file or folder", file=path, mend=mend)
    if predictions.is_dir() != labels.is_dir():
        file, folder = (labels, predictions) if predictions.is_dir() else (predictions, labels)
        raise UsageError.of(
            "file-and-folder",
            "a file can not be measured against a folder",
            expected="two files, or two folders",
            found=f"the file {file.name} and the folder {folder.name}",
        )
    if predictions.is_file():
        case = _case_of(labels)
        return {case: (case, predictions, labels)}, []
    problems: list[Problem] = []
    found, wanted = (_by_case(folder, problems) for folder in (predictions, labels))
    if not wanted:
        raise UsageError.of("no-labels", "holds no labels", expected="*.nii.gz", file=labels)
    for case in sorted(set(wanted) - set(found)):
        mend = "Predict this scan too, or name a folder with only the labels that you mean."
        problems.append(
            Problem(
                "missing-prediction", "there is no prediction for this label", "", "", mend, str(wanted[case]), case
            )
        )
    for case in sorted(set(found) - set(wanted)):
        problems.append(
            Problem(
                "no-label",
                "has no label and is passed over",
                file=str(found[case]),
                case=case,
                severity="warning",
            )
        )
    return {case: (case, found[case], wanted[case]) for case in sorted(set(found) & set(wanted))}, problems


def _by_case(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    cases: dict[str, Path] = {}
    files = scans_of(folder)
    labels = [path for path in files if case_name(path).endswith(LABEL_SUFFIX)]  # the rest are then the images
    for path in labels or files:
        first = cases.setdefault(_case_of(path), path)
        if first is not path:
            problems.append(
                Problem("duplicate-case", "two files have the same case name", found=first.name, file=str(path))
            )
    return cases


def _case_of(path: Path) -> str:
    return case_name(path).removesuffix(LABEL_SUFFIX)

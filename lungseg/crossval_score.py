"""The patients of a cross-validated run, each scored by the network of the fold that held it out.

Two figures are given:

- **plain**: threshold 0.5, nothing dropped; as ``evaluate`` gives it for a fold by itself.
- **tuned**: threshold, kept components and temperature are chosen, for the patients of fold k on those of the
  *other* folds, so that no patient judges its own setting.

``predict`` uses what is chosen on all patients, as far as the tuned figure is better than the plain one: a choice that
did not pay on patients who took no part in it is not passed on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from . import crossval_folder as folder_of
from .case_score import CaseScore, score_case
from .checkpoint import BEST
from .cluster import cluster_executor
from .crossval_folder import Chosen, is_done
from .errors import NOTICE, Problem, TrainingError, UsageError, all_failed
from .evaluation import CASES, FOLDER, SUMMARY, WHY_NOT_DICE, Evaluation
from .executor import Gathered, gather, run_cases
from .files import atomic_write
from .folder_lock import folder_lock
from .froc import free_response, froc_curve
from .held_out import from_slices, native_truth
from .manifest import Manifest
from .out_of_fold import OutOfFold, TrainedFold, checked_fold
from .patient_summary import over_patients
from .postprocess import PLAIN, PostProcessing, drop_components
from .probability_map import level_above
from .progress import progress
from .records import write_json
from .report.evaluation_page import PAGE, write_report
from .report.from_evaluation import evaluation_report
from .run_folder import METRICS
from .statistics import CONFIDENCE, bootstrap_interval
from .tally import SliceTally, total
from .tuning import FROC_THRESHOLDS, SMALLEST_ML, CaseCounts, Choice, choose_all, choose_nested, count

if TYPE_CHECKING:
    from concurrent.futures import Executor

STAGE = "crossval"


@dataclass(frozen=True)
class CrossValidation(Evaluation):
    """How well networks of a recipe do on patients that they never saw, over all folds that are trained.

    Args:
        tuned: the same patients at the setting that the other folds chose; none where one fold alone is trained.
        diverged: what ended the training of folds that are missing for it.
    """

    tuned: tuple[CaseScore, ...] = ()
    diverged: tuple[Problem, ...] = ()

    @property
    def exit_code(self) -> int:
        return super().exit_code or (TrainingError.exit_code if self.diverged else 0)

    def __str__(self) -> str:
        tuned, setting = self.summary["tuned"], self.summary["predict_uses"]
        lines = [f"{problem.severity}: {problem}" for problem in self.diverged]
        lines += super().__str__().split("\n")
        if missing := self.summary["folds_missing"]:
            names = ", ".join(map(str, missing))
            lines.insert(-1, f"folds that are not trained yet, whose patients are missing here: {names}")
        if self.tuned:
            low, high = tuned["dice_interval"] or (tuned["dice_mean"],) * 2
            lines.insert(
                -1,
                f"with threshold and kept tumours chosen on the other folds: mean Dice {tuned['dice_mean']:.3f} "
                f"({CONFIDENCE:.0%} interval {low:.3f} to {high:.3f}), {tuned['missed']} missed",
            )
        lines.insert(
            -1,
            f"predict uses {len(self.summary['folds_scored'])} folds, threshold {setting['threshold']:g}, "
            f"smallest tumour {setting['smallest_ml']:g} ml and {setting['smallest_share']:.0%} of the heaviest, "
            f"temperature {setting['temperature']:.3g}",
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Patient:
    """What is kept of a patient after its map has gone by: numbers only."""

    fold: TrainedFold
    plain: CaseScore
    counts: CaseCounts
    tally: SliceTally
    response: list[dict[str, Any]]


def score_folds(
    run: str | Path,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    report: bool = True,
    cluster: str | None = None,
) -> CrossValidation:
    """Score the held-out patients of all folds that are trained; writes ``RUN/evaluation`` and what ``predict`` uses.

    Args:
        run: folder of a cross-validated run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: slices at a time; None chooses by device.
        report: whether ``report.html`` is made, with a viewer of every patient's slices; it shows the plain masks.
        cluster: address of a Dask scheduler whose workers do it, in place of this process.

    Raises:
        UsageError: ``run`` is none, or no fold of it is trained.
        DataError: a patient would be scored by a network that was trained on it; no patient could be scored.
        IntegrityError: a checkpoint is refused.
    """
    run = Path(run)
    planned, source = folder_of.read_folds(run)
    manifest = Manifest.read(folder_of.processed_of(run))
    numbers = [number for number in range(len(planned)) if is_done(run, number)]
    if not numbers:
        mend = "Run the same `lungseg crossval` again: it goes on where it was."
        raise UsageError.of("unfinished", "no fold of the cross-validation is trained", file=run, mend=mend)
    folds = [checked_fold(run, number, planned[number], manifest) for number in numbers]
    with folder_lock(run / FOLDER, stage=STAGE):
        kept = OutOfFold(manifest, device, batch_size)
        with cluster_executor(cluster, device=device, names=(run,)) as executor:
            done = _patients(folds, kept, run / FOLDER if report else None, executor)
        patients, problems = list(done.results.values()), done.problems
        if not patients:
            raise all_failed(problems, done.exit_code, STAGE)
        choices = {
            number: Choice(tuple(p.counts for p in part), tuple(p.tally.histogram for p in part))
            for number in numbers
            if (part := [patient for patient in patients if patient.fold.number == number])
        }
        nested = {} if problems else choose_nested(choices)
        tuned = [_tuned(patient, nested[patient.fold.number], kept) for patient in patients] if nested else []
        gains = [after.dice - before.plain.dice for after, before in zip(tuned, patients, strict=bool(tuned))]
        scaled = total([_scaled(patient, nested[patient.fold.number]) for patient in patients] if nested else [])
        tally = total([patient.tally for patient in patients])
        calibration = {"plain": tally.calibration(), "nested": scaled.calibration()}
        chosen = PLAIN
        if nested:
            better = calibration["nested"]["log_loss"] or 0.0, calibration["plain"]["log_loss"] or 0.0
            chosen = choose_all(choices, mask=float(np.mean(gains)) > 0, temperature=better[0] < better[1])
        summary = {
            "notice": NOTICE,
            "lungseg": __version__,
            "crossval": True,
            "n_folds": len(planned),
            "folds": source,
            "folds_scored": numbers,
            "folds_missing": [number for number in range(len(planned)) if number not in numbers],
            "never_held_out": sorted(set(manifest.labelled) - {case for fold in planned for case in fold.val}),
            "model": {
                "recipe": folder_of.read_crossval(run)["recipe"].get("name", ""),
                "folds": {str(fold.number): {"checkpoint": BEST, "sha256": fold.weights} for fold in folds},
            },
            "threshold": PLAIN.threshold,
            "read_from": "slices",
            **over_patients([patient.plain for patient in patients], complete=not problems),
            **({} if manifest.slice_sets else {"froc": froc_curve([patient.response for patient in patients])}),
            "calibration": calibration["plain"],
            "tuned": {
                **over_patients(tuned, complete=bool(tuned)),
                "calibration": calibration["nested"] if nested else None,
                "settings_by_fold": {str(number): asdict(setting) for number, setting in nested.items()},
                "gain_in_dice": _gain(gains),
            },
            "predict_uses": asdict(chosen),
            "published_recipe": {
                "soft_dice_pooled": None if problems else round(tally.soft_dice_pooled, 6),
                "why_not_comparable": WHY_NOT_DICE,
            },
            "not_scored": {problem.case: problem.what for problem in problems},
        }
        # An older report must not stand beside newer numbers; but it does until there are some.
        (run / FOLDER / PAGE).unlink(missing_ok=True)
        _write_cases(run / FOLDER / CASES, patients, tuned, nested)
        write_json(run / FOLDER / SUMMARY, summary)
        if not problems:
            folder_of.write_chosen(run, Chosen(tuple(numbers), tuple(fold.weights for fold in folds), chosen))
        plain = tuple(patient.plain for patient in patients)
        content = None
        if report:
            content = evaluation_report(
                plain,
                summary,
                run / FOLDER,
                title=f"Cross-validation {run.resolve().name}",
                metrics=[fold.folder / METRICS for fold in folds],
                folds={patient.plain.case: patient.fold.number for patient in patients},
            )
            write_report(content, run / FOLDER)
    return CrossValidation(
        plain, summary, run / FOLDER, problems, report=content, worst=done.exit_code, tuned=tuple(tuned)
    )


def _patients(
    folds: list[TrainedFold], kept: OutOfFold, pictures: Path | None, executor: Executor | None
) -> Gathered[_Patient]:
    """Every patient, sorted by name; and what kept others out."""
    tasks = {case: (fold, case, kept.only(case)) for fold in folds for case in fold.cases}
    outcomes = run_cases(partial(_patient, pictures), tasks, workers=1, executor=executor)
    return gather(progress(outcomes, what="evaluating", total=len(tasks), unit="patient"))


def _patient(pictures: Path | None, task: tuple[TrainedFold, str, OutOfFold]) -> _Patient:
    fold, case, kept = task
    levels, tally = kept.get(fold, case)
    manifest, slices = kept.manifest, from_slices(kept.manifest, case)
    record, truth, gaps = manifest.record(case), slices.truth, manifest.slice_sets
    if pictures is not None:
        slices.write_pictures(pictures, case, levels >= level_above(PLAIN.threshold), whole=not gaps)
    sizes = SMALLEST_ML[:1] if gaps else SMALLEST_ML  # where slices are no neighbours there is no volume
    counts = count(case, truth, levels, record.voxel_ml, smallest_ml=sizes)
    steps = [(threshold, level_above(threshold)) for threshold in FROC_THRESHOLDS]
    response = [] if gaps else free_response(truth, levels, record.las_spacing_mm, steps)
    return _Patient(fold, _score(case, truth, levels, PLAIN, manifest), counts, tally, response)


def _tuned(patient: _Patient, setting: PostProcessing, kept: OutOfFold) -> CaseScore:
    """The patient's score at a setting that it had no part in choosing."""
    if setting.plain:
        return patient.plain
    case = patient.plain.case
    return _score(case, native_truth(kept.manifest, case), kept.get(patient.fold, case)[0], setting, kept.manifest)


def _scaled(patient: _Patient, setting: PostProcessing) -> SliceTally:
    """The patient's counts, its logits divided by the temperature that the other folds chose."""
    tally = patient.tally
    return SliceTally(tally.soft, tally.histogram.scaled(setting.temperature), tally.outside)


def _score(case: str, truth: np.ndarray, levels: np.ndarray, setting: PostProcessing, manifest: Manifest) -> CaseScore:
    record, gaps = manifest.record(case), manifest.slice_sets
    mask = (levels >= level_above(setting.threshold)).view(np.uint8)
    drop_components(mask, levels, setting, record.voxel_ml)
    below = int(np.count_nonzero(truth[:, :, : record.skipped]))
    return score_case(case, truth, mask, record.las_spacing_mm, skipped_voxels=below, slice_set=gaps)


def _gain(gains: Sequence[float]) -> dict[str, Any] | None:
    """Mean gain in Dice by the tuned settings, patient by patient, and its interval."""
    if not gains:
        return None
    interval = bootstrap_interval(gains)
    ends = None if interval is None else [round(end, 6) for end in interval]
    return {"mean": round(float(np.mean(gains)), 6), "interval": ends}


def _write_cases(
    path: Path, patients: list[_Patient], tuned: list[CaseScore], nested: dict[int, PostProcessing]
) -> None:
    """One row a patient: the plain score, and the tuned one beside it with the setting that it was made with."""
    rows: list[dict[str, Any]] = []
    for index, patient in enumerate(patients):
        values = patient.plain.as_dict()
        row: dict[str, Any] = {"case": values.pop("case"), "fold": patient.fold.number, **values}
        if tuned:
            row |= {f"tuned_{key}": value for key, value in tuned[index].as_dict().items() if key != "case"}
            row |= {f"setting_{key}": value for key, value in asdict(nested[patient.fold.number]).items()}
        rows.append({key: "" if value is None else value for key, value in row.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode("utf-8", "surrogateescape"), durable=True)

"""The patients of a cross-validated run, each scored by the network of the fold that held it out.

A patient's out-of-fold probabilities are worked out once and kept (:mod:`lungseg.probability_map`,
``RUN/folds/<k>/out_of_fold``); everything else is counted from them, one patient at a time.  Two figures are given:

- **plain**: threshold 0.5, nothing dropped; as ``evaluate`` gives it for a fold by itself.
- **tuned**: threshold and smallest kept component of the highest mean Dice.  The setting of fold k is chosen on the
  patients of the other folds, so that no patient judges its own setting.

``predict`` uses the setting that is chosen on all patients, if the tuned figure is better than the plain one: a choice
that did not pay on patients who took no part in it is not passed on.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from . import crossval_folder as folder_of
from .case_score import CaseScore, score_case
from .checkpoint import BEST, FOLDER, load_checkpoint
from .crossval_folder import Chosen, fold_folder, is_done
from .errors import NOTICE, DataError, LungsegError, Problem, TrainingError, UsageError
from .evaluate import CASES, SUMMARY, WHY_NOT_DICE, Evaluation, _from_slices, native_truth
from .evaluate import FOLDER as EVALUATION
from .files import atomic_write, folder_lock, sha256_of, write_json
from .inference import Segmenter
from .leakage import check_unseen
from .manifest import Manifest
from .metrics import dice_of_counts
from .patient_summary import over_patients
from .postprocess import PLAIN, PostProcessing, drop_small
from .probability_map import MapVolume, level_above, read_map, write_map
from .progress import progress
from .run_folder import SPLITS, data_digest, read_config
from .splits import Fold, Split
from .statistics import CONFIDENCE, bootstrap_interval
from .tuning import SMALLEST_ML, CaseCounts, choose, choose_nested, count

STAGE = "crossval"
MAPS = "out_of_fold"


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
                f"with threshold and smallest tumour chosen on the other folds: mean Dice {tuned['dice_mean']:.3f} "
                f"({CONFIDENCE:.0%} interval {low:.3f} to {high:.3f}), {tuned['missed']} missed",
            )
        lines.insert(
            -1,
            f"predict uses {len(self.summary['folds_scored'])} folds, threshold {setting['threshold']:g}, "
            f"smallest tumour {setting['smallest_ml']:g} ml, temperature {setting['temperature']:.3g}",
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Fold:
    """A trained fold that may score its held-out patients."""

    number: int
    folder: Path
    cases: tuple[str, ...]
    weights: str  # SHA-256 of best.ckpt


@dataclass(frozen=True)
class _Patient:
    """What the first pass leaves of a patient: numbers only."""

    fold: int
    plain: CaseScore
    counts: CaseCounts
    soft: tuple[float, float, float]  # sums over pixels: overlap, truth, prediction


def score_folds(run: str | Path, *, device: str = "auto", batch_size: int | None = None) -> CrossValidation:
    """Score the held-out patients of all folds that are trained; writes ``RUN/evaluation`` and what ``predict`` uses.

    Args:
        run: folder of a cross-validated run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: slices at a time; None chooses by device.

    Raises:
        UsageError: ``run`` is none, or no fold of it is trained.
        DataError: a patient would be scored by a network that was trained on it; no patient could be scored.
        IntegrityError: a checkpoint or a slice is refused.
    """
    run = Path(run)
    planned, source = folder_of.read_folds(run)
    manifest = Manifest.read(folder_of.processed_of(run))
    numbers = [number for number in range(len(planned)) if is_done(run, number)]
    if not numbers:
        mend = "Run the same `lungseg crossval` again: it goes on where it was."
        raise UsageError.of("unfinished", "no fold of the cross-validation is trained", file=run, mend=mend)
    folds = [checked_fold(run, number, planned[number], manifest) for number in numbers]
    with folder_lock(run / EVALUATION, stage=STAGE):
        gaps = manifest.slice_sets or bool(folder_of.read_crossval(run).get("slice_sets"))
        maps = _Maps(manifest, gaps, device, batch_size)
        patients, problems = _first_pass(folds, maps)
        if not patients:
            raise DataError(problems[0], STAGE)
        by_fold = {
            fold.number: [patient.counts for patient in patients if patient.fold == fold.number] for fold in folds
        }
        by_fold = {number: counts for number, counts in by_fold.items() if counts}
        nested = choose_nested(by_fold) if not problems else {}
        tuned = [_tuned(patient, nested[patient.fold], folds, maps) for patient in patients] if nested else []
        chosen, paid = PLAIN, None
        if tuned:
            gains = np.array([after.dice - before.plain.dice for after, before in zip(tuned, patients, strict=True)])
            paid = {"mean": round(float(gains.mean()), 6), "interval": _rounded(bootstrap_interval(gains))}
            if gains.mean() > 0:
                chosen = choose(count for counts in by_fold.values() for count in counts)
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
            "tuned": {
                **over_patients(tuned, complete=bool(tuned)),
                "settings_by_fold": {str(number): asdict(setting) for number, setting in nested.items()},
                "gain_in_dice": paid,
            },
            "predict_uses": asdict(chosen),
            "published_recipe": {
                "soft_dice_pooled": None if problems else _pooled(patients),
                "why_not_comparable": WHY_NOT_DICE,
            },
            "not_scored": {problem.case: problem.what for problem in problems},
        }
        _write_cases(run / EVALUATION / CASES, patients, tuned, nested)
        write_json(run / EVALUATION / SUMMARY, summary)
        if not problems:
            folder_of.write_chosen(run, Chosen(tuple(numbers), tuple(fold.weights for fold in folds), chosen))
    plain = tuple(patient.plain for patient in patients)
    return CrossValidation(plain, summary, run / EVALUATION, tuple(problems), tuple(tuned))


def checked_fold(run: Path, number: int, planned: Fold, manifest: Manifest) -> _Fold:
    """The fold, after its weights were shown to have seen none of the patients that it is to score.

    Raises:
        DataError: the run in its folder is of another fold or of other data; a held-out scan is one that was trained
            on, under whatever name.
        IntegrityError: the checkpoint is refused.
    """
    folder = fold_folder(run, number)
    split, config = Split.read(folder / SPLITS), read_config(folder)
    own = load_checkpoint(folder / FOLDER / BEST)["hyper_parameters"]["config"]
    trained = (*split.train, *split.inner_val)
    same = (
        config["fold"] == own.get("fold") == split.fold == number
        and set(split.held_out) == set(planned.val)
        and set(trained) == set(planned.train)
        and config["data"] == own.get("data")
    )
    if not same:
        raise DataError.of(
            "leak",
            f"does not hold the weights of fold {number}: they may have been trained on the patients to be scored",
            expected=f"fold {number}, trained on {len(planned.train)} patients, {len(planned.val)} held out",
            found=f"fold {config['fold']}, weights of fold {own.get('fold')}, trained on {len(trained)} patients, "
            f"{len(split.held_out)} held out",
            file=folder,
            mend="Remove this folder, and run the same `lungseg crossval` again: it trains the fold anew.",
            stage=STAGE,
        )
    if config["data"]["digest"] != data_digest(manifest, list(trained)):
        raise DataError.of(
            "other-data",
            "was trained on other slices than those in the preprocessed folder",
            file=folder,
            mend="Preprocess as before, or cross-validate into another folder.",
            stage=STAGE,
        )
    check_unseen(manifest, split)
    return _Fold(number, folder, split.held_out, sha256_of(folder / FOLDER / BEST))


class _Maps:
    """Out-of-fold maps: kept ones, or made by the fold's network, which is loaded when it is first needed."""

    def __init__(self, manifest: Manifest, slice_sets: bool, device: str, batch_size: int | None) -> None:
        self.manifest, self.slice_sets, self.device, self.batch_size = manifest, slice_sets, device, batch_size
        self._loaded: tuple[int, Segmenter] | None = None

    def get(self, fold: _Fold, case: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Levels ``uint8 [L, A, S]``, and ``soft``: overlap, truth and prediction as sums of the slices' pixels."""
        facts = {"weights": fold.weights, "slices": data_digest(self.manifest, [case])}
        with folder_lock(fold.folder / MAPS, stage=STAGE):
            there = read_map(fold.folder / MAPS, case, facts)
            if there is None:
                there = self._make(fold, case)
                write_map(fold.folder / MAPS, case, there[0], facts, there[1])
        return there

    def _make(self, fold: _Fold, case: str) -> tuple[np.ndarray, dict[str, Any]]:
        patient = _from_slices(self.manifest, case)
        volume, soft = MapVolume(patient.truth.shape, patient.grid), np.zeros(3)
        found = self._segmenter(fold).probabilities(patient.images)
        for z, mask, probability in zip(patient.indices, patient.masks, found, strict=True):
            volume.put(z, probability)
            sums = (
                probability[mask > 0].sum(dtype=np.float64),
                np.count_nonzero(mask),
                probability.sum(dtype=np.float64),
            )
            soft += sums
        return volume.levels, {"soft": [float(value) for value in soft]}

    def _segmenter(self, fold: _Fold) -> Segmenter:
        if self._loaded is None or self._loaded[0] != fold.number:
            loaded = Segmenter.load(fold.folder, device=self.device, batch_size=self.batch_size)
            self._loaded = fold.number, loaded
        return self._loaded[1]


def _first_pass(folds: list[_Fold], maps: _Maps) -> tuple[list[_Patient], list[Problem]]:
    """Plain scores and counts of every patient, sorted by name; and what kept others out."""
    tasks = [(fold, case) for fold in folds for case in fold.cases]
    patients, problems = [], []
    for fold, case in progress(tasks, what="evaluating", total=len(tasks), unit="patient"):
        try:
            patients.append(_patient(fold, case, maps))
        except LungsegError as error:
            if error.exit_code not in (DataError.exit_code, 4):
                raise
            problems.append(error.problem.at(case=case))
    return sorted(patients, key=lambda patient: patient.plain.case), problems


def _patient(fold: _Fold, case: str, maps: _Maps) -> _Patient:
    levels, sums = maps.get(fold, case)
    record, truth = maps.manifest.record(case), native_truth(maps.manifest, case)
    plain = _score(case, truth, levels, PLAIN, maps)
    sizes = SMALLEST_ML[:1] if maps.slice_sets else SMALLEST_ML  # where slices are no neighbours there is no volume
    counts = count(case, truth, levels, record.voxel_ml, smallest_ml=sizes)
    overlap, true, found = sums["soft"]
    return _Patient(fold.number, plain, counts, (overlap, true, found))


def _tuned(patient: _Patient, setting: PostProcessing, folds: list[_Fold], maps: _Maps) -> CaseScore:
    """The patient's score at a setting that it had no part in choosing."""
    if setting.plain:
        return patient.plain
    case = patient.plain.case
    fold = next(fold for fold in folds if fold.number == patient.fold)
    levels, _ = maps.get(fold, case)
    return _score(case, native_truth(maps.manifest, case), levels, setting, maps)


def _score(case: str, truth: np.ndarray, levels: np.ndarray, setting: PostProcessing, maps: _Maps) -> CaseScore:
    record = maps.manifest.record(case)
    mask = (levels >= level_above(setting.threshold)).view(np.uint8)
    drop_small(mask, setting.smallest_ml, record.voxel_ml)
    below = int(np.count_nonzero(truth[:, :, : record.skipped]))
    return score_case(case, truth, mask, record.las_spacing_mm, skipped_voxels=below, slice_set=maps.slice_sets)


def _pooled(patients: list[_Patient]) -> float:
    return round(dice_of_counts(*np.sum([patient.soft for patient in patients], axis=0).tolist()), 6)


def _rounded(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(end, 6) for end in interval]


def _write_cases(
    path: Path, patients: list[_Patient], tuned: list[CaseScore], nested: dict[int, PostProcessing]
) -> None:
    """One row a patient: the plain score, and the tuned one beside it with the setting that it was made with."""
    rows: list[dict[str, Any]] = []
    for index, patient in enumerate(patients):
        values = patient.plain.as_dict()
        row: dict[str, Any] = {"case": values.pop("case"), "fold": patient.fold, **values}
        if tuned:
            row |= {f"tuned_{key}": value for key, value in tuned[index].as_dict().items() if key != "case"}
            row |= {f"setting_{key}": value for key, value in asdict(nested[patient.fold]).items()}
        rows.append({key: "" if value is None else value for key, value in row.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode("utf-8", "surrogateescape"), durable=True)

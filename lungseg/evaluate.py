"""The held-out patients of a run, scored patient by patient on the scans' own grids: the stage ``lungseg evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any, Self

import numpy as np

from . import __version__
from .case_score import CaseScore, score_case, write_csv
from .comparison import Comparison, OtherScores, check_shared, read_scores
from .comparison import compare as compare_scores
from .crossval_folder import FOLDS, is_crossval, read_folds
from .errors import NOTICE, DataError, Problem, UsageError, printable
from .executor import run_cases
from .export import CHECKPOINTS
from .files import folder_lock, make_folder, write_json
from .froc import free_response, froc_curve
from .geometry import SliceGrid, to_las
from .inference import MaskVolume, Segmenter, check_threshold
from .leakage import check_scan_unseen, check_unseen, evenly
from .manifest import TUMOUR, CaseRecord, Manifest, image_name, mask_name
from .nifti import read_label, read_scan
from .pairs import check_pair
from .patient_summary import over_patients, table
from .progress import progress
from .report.case_file import CaseView, write_case
from .report.content import Report
from .report.evaluation_page import PAGE, write_report
from .report.from_evaluation import case_path, evaluation_report
from .run_folder import METRICS, SPLITS, check_weights, processed_folder
from .slice_file import read_array, read_slice
from .slicing import skipped_slices, slice_image, slice_mask
from .splits import Split
from .tally import SliceTally, total
from .tree import Tree, find_case, read_tree

STAGE = "evaluate"
FOLDER, CASES, SUMMARY, COMPARISON = "evaluation", "cases.csv", "summary.json", "comparison.json"
WHY_NOT_DICE = (
    "The published recipe's measure: probabilities in place of a mask, all pixels of all slices pooled, skipped slices "
    "left out. Large tumours decide it, missed patients vanish in it; it is not comparable with the Dice of patients."
)


@dataclass(frozen=True)
class Evaluation:
    """How well a run's network does on patients that it never saw.

    Args:
        cases: one a held-out patient, sorted by name.
        summary: numbers over patients, the model and the settings; the content of ``summary.json``.
        folder: where ``cases.csv`` and ``summary.json`` are.
        problems: what kept patients out.
        comparison: with another run or file, where one was asked for.
        report: what ``report.html`` says; None where none was made.
    """

    cases: tuple[CaseScore, ...]
    summary: dict[str, Any]
    folder: Path
    problems: tuple[Problem, ...] = ()
    comparison: Comparison | None = None
    report: Report | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int:
        return DataError.exit_code if self.problems else 0

    def __str__(self) -> str:
        soft, probabilities = self.summary["published_recipe"]["soft_dice_pooled"], self.summary.get("calibration", {})
        pooled = [] if soft is None else [f"pooled soft Dice of the published recipe, not to be compared: {soft:.3f}"]
        lines = [f"{problem.severity}: {problem}" for problem in self.problems]
        lines.append(table(self.cases, self.summary))
        if probabilities.get("pixels"):
            lines.append(
                f"probabilities near the lungs: expected calibration error {probabilities['ece']:.4f}, Brier score "
                f"{probabilities['brier']:.5f} ({probabilities['brier_of_prevalence']:.5f} for a constant)"
            )
        compared = [] if self.comparison is None else [str(self.comparison)]
        return "\n".join([*lines, *pooled, *compared, *self._look(), NOTICE])

    def compared(self, other: OtherScores | None) -> Self:
        """The same with a comparison, which is written beside the rest; an older one is removed."""
        path = self.folder / COMPARISON
        path.unlink(missing_ok=True)
        if other is None:
            return self
        dice = {score.case: score.dice for score in self.cases}
        comparison = compare_scores(dice, other, slice_sets=bool(self.summary.get("slice_sets")))
        write_json(path, comparison.as_dict())
        if self.report is not None:
            said = " ".join(str(comparison).split())
            write_report(replace(self.report, notes=(f"{said[0].upper()}{said[1:]}",)), self.folder)
        return replace(self, comparison=comparison)

    def _look(self) -> list[str]:
        """Where the report is, if there is one."""
        page = self.folder / PAGE
        return [f"to look at: {printable(page)}"] if page.is_file() else []


@dataclass(frozen=True)
class _Slices:
    """A held-out patient as ``evaluate`` needs it, wherever it was read from.

    Args:
        indices: of the slices in the L-A-S scan, rising.
        skipped: axial slices dropped at the feet end.
        spacing_mm: voxel size along left, front, head.
        grid: the step to square slices.
        image: the slice of an index, ``float16 [size, size]``.
        masks: likewise, ``uint8 [size, size]``.
        truth: the label, ``uint8 [L, A, S]``.
    """

    indices: tuple[int, ...]
    skipped: int
    spacing_mm: tuple[float, float, float]
    grid: SliceGrid
    image: Callable[[int], np.ndarray]
    masks: Iterator[np.ndarray]
    truth: np.ndarray = field(repr=False)

    @property
    def images(self) -> Iterator[np.ndarray]:
        """Of the slices, in order."""
        return map(self.image, self.indices)

    def write_pictures(self, folder: Path, case: str, found: np.ndarray, *, whole: bool) -> None:
        """Keep in an evaluation's folder what its report shows of the patient, with the prediction ``[L, A, S]``."""
        path = case_path(folder, case)
        make_folder(path.parent)
        view = CaseView(
            self.image, self.indices, self.grid, self.spacing_mm, found=found, truth=self.truth, whole=whole
        )
        write_case(path, view)


def evaluate(
    run: str | Path,
    *,
    scans: str | Path | None = None,
    threshold: float = 0.5,
    checkpoint: str = "best",
    device: str = "auto",
    batch_size: int | None = None,
    report: bool = True,
    compare: str | Path | None = None,
) -> Evaluation:
    """Score the held-out patients of a run's fold; none of them was trained on, none chose the checkpoint.

    Of a cross-validated run the patients of all folds are scored, each by the network that never saw it
    (:mod:`lungseg.crossval_score`); it takes no ``scans``, ``threshold`` or ``checkpoint``, which one fold does.

    Every measure is taken on the scan's own grid; tumour in skipped slices counts as not found.  Writes
    ``RUN/evaluation/cases.csv`` (one row a patient), ``summary.json``, and ``report.html`` for people to look at.

    Args:
        run: folder of a run.
        scans: folder of the original scans and labels, to read them again; without, the slices that the run was trained
            beside are taken, and the native labels that lie with them.  Both give the same numbers.
        threshold: a voxel is tumour where its probability is above.
        checkpoint: ``best`` or ``last``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: slices at a time; None chooses by device.
        report: whether ``report.html`` is made, with a viewer of every patient's slices.
        compare: another evaluated run, ``FILE.csv`` or ``FILE.csv:COLUMN`` (:func:`lungseg.comparison.read_scores`):
            its Dice is compared with this run's, patient by patient, into ``RUN/evaluation/comparison.json``.

    Raises:
        UsageError: an argument can not be meant, or ``run`` is no run.
        DataError: the slices are missing or were made with other settings, or no patient could be scored, or a held-out
            scan is among those that were trained on.
        IntegrityError: the checkpoint or a slice is refused.
    """
    run = Path(run)
    check_threshold(threshold)
    other = None if compare is None else read_scores(compare)
    if is_crossval(run):
        _refuse_of_folds(run, scans=scans is not None, threshold=threshold != 0.5, checkpoint=checkpoint != "best")
        if other is not None:
            check_shared([case for fold in read_folds(run)[0] for case in fold.val], other)  # before an hour of work
        from .crossval_score import score_folds  # which needs this module

        return score_folds(run, device=device, batch_size=batch_size, report=report).compared(other)
    segmenter = Segmenter.load(run, checkpoint=checkpoint, device=device, batch_size=batch_size)
    split = Split.read(run / SPLITS)
    if other is not None:
        check_shared(split.held_out, other)  # before an hour of work
    manifest = Manifest.read(processed_folder(run))
    _check_settings(manifest, segmenter)
    check_weights(run, CHECKPOINTS[checkpoint], split, manifest, stage=STAGE)
    check_unseen(manifest, split)
    tree = None if scans is None else read_tree(scans)
    tasks = {case: case for case in split.held_out}
    measured: list[_Measured] = []
    problems: list[Problem] = []
    with folder_lock(run / FOLDER, stage=STAGE):
        # An older report must not stand beside newer numbers.
        (run / FOLDER / PAGE).unlink(missing_ok=True)
        pictures = run / FOLDER if report else None
        work = partial(_one_case, segmenter, manifest, tree, split, threshold, pictures)
        for outcome in progress(run_cases(work, tasks, workers=1), what="evaluating", total=len(tasks), unit="patient"):
            if outcome.error is not None:
                problems.append(outcome.error.problem)
            elif outcome.result is not None:
                measured.append(outcome.result)
        if not measured:
            raise DataError(problems[0], STAGE)
        scores, tally = [patient.score for patient in measured], total([patient.tally for patient in measured])
        summary = {
            "notice": NOTICE,
            "lungseg": __version__,
            "fold": split.fold,
            "n_folds": split.n_folds,
            "folds": split.source,
            "model": segmenter.description,
            "threshold": float(threshold),
            "read_from": "slices" if scans is None else "scans",
            **over_patients(scores, complete=not problems),
            **({} if manifest.slice_sets else {"froc": froc_curve([patient.response for patient in measured])}),
            "calibration": tally.calibration(),
            "published_recipe": {
                "soft_dice_pooled": None if problems else round(tally.soft_dice_pooled, 6),
                "why_not_comparable": WHY_NOT_DICE,
            },
            "not_scored": {problem.case: problem.what for problem in problems},
        }
        write_csv(run / FOLDER / CASES, scores)
        write_json(run / FOLDER / SUMMARY, summary)
        content = None
        if report:
            content = evaluation_report(
                scores, summary, run / FOLDER, title=f"Run {run.resolve().name}", metrics=[run / METRICS]
            )
            write_report(content, run / FOLDER)
        done = Evaluation(tuple(scores), summary, run / FOLDER, tuple(problems), report=content)
        return done.compared(other)


def _refuse_of_folds(run: Path, **asked: bool) -> None:
    names = [name for name, is_asked in asked.items() if is_asked]
    if names:
        raise UsageError.of(
            "one-fold-only",
            f"is cross-validated, and is scored without {' and '.join(names)} of one's own",
            file=run,
            mend=f"For one fold: lungseg evaluate {run / FOLDS / '0'} --{names[0]} ...",
        )


@dataclass(frozen=True)
class _Measured:
    """What is kept of a patient: its score, counts of its slices, and its part of the free-response curve."""

    score: CaseScore
    tally: SliceTally
    response: list[dict[str, Any]]


def _one_case(
    segmenter: Segmenter,
    manifest: Manifest,
    tree: Tree | None,
    split: Split,
    threshold: float,
    pictures: Path | None,
    case: str,
) -> _Measured:
    patient = from_slices(manifest, case) if tree is None else _from_scans(tree, segmenter, manifest, split, case)
    volume, tally = MaskVolume(patient.truth.shape, patient.grid, threshold), SliceTally()
    pixel_mm = patient.grid.pixel_mm(patient.spacing_mm)
    images, ahead = tee(patient.images)  # the network is ahead by one batch
    found = segmenter.probabilities(ahead)
    for z, image, mask, probability in zip(patient.indices, images, patient.masks, found, strict=True):
        volume.put(z, probability)
        tally.add(image, mask, probability, pixel_mm, segmenter.config)
    below = int(np.count_nonzero(patient.truth[:, :, : patient.skipped]))
    gaps = manifest.slice_sets
    if pictures is not None:
        patient.write_pictures(pictures, case, volume.mask, whole=not gaps)
    score = score_case(case, patient.truth, volume.mask, patient.spacing_mm, skipped_voxels=below, slice_set=gaps)
    return _Measured(score, tally, [] if gaps else free_response(patient.truth, volume.probability, patient.spacing_mm))


def from_slices(manifest: Manifest, case: str) -> _Slices:
    """A labelled case of a preprocessed folder.

    Raises:
        DataError, IntegrityError: it is unknown, has no label, or is damaged (of a slice, when that is read).
    """
    record, folder = manifest.record(case), manifest.root / case
    size = manifest.config.size

    def read(name: str, dtype: type[np.generic]) -> np.ndarray:
        return read_slice(folder / name, dtype, size, record.hashes[name])

    return _Slices(
        indices=record.slices,
        skipped=record.skipped,
        spacing_mm=record.las_spacing_mm,
        grid=SliceGrid.of(record.las_shape, record.las_spacing_mm, size),
        image=lambda z: read(image_name(z), np.float16),
        masks=(read(mask_name(z), np.uint8) for z in record.slices),
        truth=native_truth(manifest, case),
    )


def _from_scans(tree: Tree, segmenter: Segmenter, manifest: Manifest, split: Split, name: str) -> _Slices:
    case = find_case(tree, name)
    if case.label is None:
        raise DataError.of("no-label", "has no label to be scored against", file=case.image, case=name)
    scan, label = read_scan(case.image), read_label(case.label)
    check_pair(scan, label)
    las, affine, _ = to_las(scan.voxels, scan.affine)
    truth = to_las(label.voxels, scan.affine)[0]
    x, y, z = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    skipped = skipped_slices(las, (x, y, z), segmenter.config)
    grid = SliceGrid.of(las.shape, (x, y, z), segmenter.config.size)
    indices = tuple(range(skipped, las.shape[2]))
    some = (slice_image(las, index, grid, segmenter.config) for index in evenly(indices))
    check_scan_unseen(name, scan.hash, some, manifest, split)
    return _Slices(
        indices=indices,
        skipped=skipped,
        spacing_mm=(x, y, z),
        grid=grid,
        image=lambda index: slice_image(las, index, grid, segmenter.config),
        masks=(slice_mask(truth, index, grid) for index in indices),
        truth=truth,
    )


def native_truth(manifest: Manifest, case: str) -> np.ndarray:
    """The label of a preprocessed case on the scan's own grid.

    Returns:
        ``uint8 [L, A, S]``, 0 or 1.

    Raises:
        DataError: the case is unknown or has no label, or the file is damaged.
        IntegrityError: the file is not the one that was written.
    """
    record: CaseRecord = manifest.record(case)
    if not record.labelled:
        raise DataError.of("no-label", "has no label to be scored against", file=manifest.root / case, case=case)
    truth = np.zeros(record.las_shape, np.uint8, order="F")
    if record.tumour_box is not None:
        box = tuple(slice(*ends) for ends in record.tumour_box)
        shape = tuple(stop - start for start, stop in record.tumour_box)
        truth[box] = read_array(manifest.root / case / TUMOUR, np.uint8, shape, record.hashes[TUMOUR])
    return truth


def _check_settings(manifest: Manifest, segmenter: Segmenter) -> None:
    if manifest.config != segmenter.config:
        raise DataError.of(
            "other-settings",
            "the slices were made with other settings than those that the network was trained on",
            expected=str(segmenter.config),
            found=str(manifest.config),
            file=manifest.root,
            mend="Preprocess again with the settings of the run, or train again.",
            stage=STAGE,
        )

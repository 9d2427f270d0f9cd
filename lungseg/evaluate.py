"""The held-out patients of a run, scored patient by patient on the scans' own grids: the stage ``lungseg evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .case_score import CaseScore, score_case, write_csv
from .cluster import cluster_executor
from .comparison import check_shared
from .crossval_folder import FOLDS, is_crossval, read_folds
from .errors import NOTICE, DataError, Problem, UsageError, all_failed
from .evaluation import CASES, FOLDER, SUMMARY, WHY_NOT_DICE, Evaluation
from .executor import gather, run_cases
from .export import CHECKPOINTS
from .folder_lock import folder_lock
from .froc import free_response, froc_curve
from .held_out import from_scans, from_slices
from .inference import MaskVolume, Segmenter, check_threshold
from .leakage import check_unseen
from .manifest import Manifest
from .neighbours import refuse_gaps
from .other_scores import read_scores
from .patient_summary import over_patients
from .place import local
from .progress import progress
from .records import write_json
from .report.evaluation_page import PAGE, write_report
from .report.from_evaluation import evaluation_report
from .run_folder import METRICS, SPLITS, processed_folder
from .run_weights import check_weights
from .splits import Split
from .tally import SliceTally, total
from .tree import Tree, read_tree
from .worker_network import WorkerNetwork

STAGE = "evaluate"


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
    cluster: str | None = None,
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
        compare: another evaluated run, ``FILE.csv`` or ``FILE.csv:COLUMN`` (:func:`lungseg.other_scores.read_scores`):
            its Dice is compared with this run's, patient by patient, into ``RUN/evaluation/comparison.json``.
        cluster: address of a Dask scheduler whose workers do it, in place of this process (``docs/clusters.md``).

    Raises:
        UsageError: an argument can not be meant, or ``run`` is no run.
        DataError: the slices are missing or were made with other settings, or no patient could be scored, or a held-out
            scan is among those that were trained on.
        IntegrityError: the checkpoint or a slice is refused.
    """
    run = local(run)
    check_threshold(threshold)
    other = None if compare is None else read_scores(compare)
    if is_crossval(run):
        _refuse_of_folds(run, scans=scans is not None, threshold=threshold != 0.5, checkpoint=checkpoint != "best")
        if other is not None:
            check_shared([case for fold in read_folds(run)[0] for case in fold.val], other)  # before an hour of work
        from .crossval_score import score_folds  # which needs this module

        return score_folds(run, device=device, batch_size=batch_size, report=report, cluster=cluster).compared(other)
    here = device if cluster is None else "cpu"  # this machine then only looks whether it is a network
    segmenter = Segmenter.load(run, checkpoint=checkpoint, device=here, batch_size=batch_size)
    split = Split.read(run / SPLITS)
    if other is not None:
        check_shared(split.held_out, other)  # before an hour of work
    manifest = Manifest.read(processed_folder(run))
    _check_settings(manifest, segmenter)
    check_weights(run, CHECKPOINTS[checkpoint], split, manifest, stage=STAGE)
    check_unseen(manifest, split)
    tree = None if scans is None else read_tree(scans)
    network: Segmenter | WorkerNetwork = segmenter
    if cluster is not None:
        network = WorkerNetwork.of(segmenter, run, checkpoint=checkpoint, device=device, batch_size=batch_size)
    # Of the slices a worker needs one record; of the scans all, to see that none of them was trained on.
    tasks = {case: (case, manifest.only(case) if tree is None else manifest) for case in split.held_out}
    there = cluster_executor(cluster, device=device, names=(run, scans or run))
    with folder_lock(run / FOLDER, stage=STAGE), there as executor:
        pictures = run / FOLDER if report else None
        work = partial(_one_case, network, tree, split, threshold, pictures)
        outcomes = run_cases(work, tasks, workers=1, executor=executor)
        done = gather(progress(outcomes, what="evaluating", total=len(tasks), unit="patient"))
        measured = list(done.results.values())
        if not measured:
            raise all_failed(done.problems, done.exit_code, STAGE)
        warned = [problem for patient in measured for problem in patient.warned]
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
            **over_patients(scores, complete=not done.problems),
            **({} if manifest.slice_sets else {"froc": froc_curve([patient.response for patient in measured])}),
            "calibration": tally.calibration(),
            "published_recipe": {
                "soft_dice_pooled": None if done.problems else round(tally.soft_dice_pooled, 6),
                "why_not_comparable": WHY_NOT_DICE,
            },
            "not_scored": {problem.case: problem.what for problem in done.problems},
        }
        # An older report must not stand beside newer numbers; but it does until there are some.
        (run / FOLDER / PAGE).unlink(missing_ok=True)
        write_csv(run / FOLDER / CASES, scores)
        write_json(run / FOLDER / SUMMARY, summary)
        content = None
        if report:
            content = evaluation_report(
                scores, summary, run / FOLDER, title=f"Run {run.resolve().name}", metrics=[run / METRICS]
            )
            write_report(content, run / FOLDER)
        problems = (*warned, *done.problems)
        made = Evaluation(tuple(scores), summary, run / FOLDER, problems, report=content, worst=done.exit_code)
        return made.compared(other)


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
    """What is kept of a patient: its score, counts of its slices, its part of the free-response curve, and warnings."""

    score: CaseScore
    tally: SliceTally
    response: list[dict[str, Any]]
    warned: tuple[Problem, ...]


def _one_case(
    network: Segmenter | WorkerNetwork,
    tree: Tree | None,
    split: Split,
    threshold: float,
    pictures: Path | None,
    patient_of: tuple[str, Manifest],
) -> _Measured:
    case, manifest = patient_of
    segmenter = network.load() if isinstance(network, WorkerNetwork) else network
    patient = from_slices(manifest, case) if tree is None else from_scans(tree, segmenter.config, manifest, split, case)
    volume, tally = MaskVolume(patient.truth.shape, patient.grid, threshold), SliceTally()
    pixel_mm = patient.grid.pixel_mm(patient.spacing_mm)
    images, ahead = tee(patient.images)  # the network is ahead by a batch, and by its neighbours
    found = segmenter.probabilities(ahead, patient.indices, patient.spacing_mm[2])
    for z, image, mask, probability in zip(patient.indices, images, patient.masks, found, strict=True):
        volume.put(z, probability)
        tally.add(image, mask, probability, pixel_mm, segmenter.config)
    below = int(np.count_nonzero(patient.truth[:, :, : patient.skipped]))
    gaps = manifest.slice_sets
    if pictures is not None:
        patient.write_pictures(pictures, case, volume.mask, whole=not gaps)
    score = score_case(case, patient.truth, volume.mask, patient.spacing_mm, skipped_voxels=below, slice_set=gaps)
    response = [] if gaps else free_response(patient.truth, volume.probability, patient.spacing_mm)
    return _Measured(score, tally, response, patient.warned)


def _check_settings(manifest: Manifest, segmenter: Segmenter) -> None:
    refuse_gaps(segmenter.neighbours.count, manifest.slice_sets, manifest.root)
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

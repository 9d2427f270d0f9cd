"""Cross-validation: a run for each fold, then every patient scored by the network that never saw it.

The stage behind ``lungseg crossval``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from . import crossval_folder as folder_of
from .augment import Augment
from .config import Recipe
from .crossval_folder import fold_folder, is_crossval, is_done
from .crossval_score import CrossValidation, score_folds
from .device import pick_device
from .errors import LungsegError, Problem, TrainingError, UsageError
from .executor import cores, run_cases
from .folder_lock import folder_lock
from .leakage import check_unseen
from .manifest import Manifest
from .neighbours import refuse_gaps, refuse_shards
from .place import local
from .run_folder import CONFIG, SPLITS
from .shards import holds_shards
from .splits import Fold, Split, make_split
from .train import train
from .training_settings import CUSTOM, DEFAULT_FOLDS, base_recipe, check_limits, check_recipe, refuse_inside

STAGE = "crossval"


def crossval(
    processed: str | Path,
    run: str | Path,
    *,
    n_folds: int | None = None,
    splits: str | Path | None = None,
    folds: str | Sequence[int] = "all",
    recipe: str | Recipe | None = None,
    loss: str | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    augment: str | Augment | Callable[..., Any] | None = None,
    inner_val: float | None = None,
    early_stop: int | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    neighbours: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    in_memory: bool | None = None,
    limit_batches: int | None = None,
    deterministic: bool | None = None,
) -> CrossValidation:
    """Train the folds one after another, then score every patient by the network that never saw it.

    ``RUN/folds/<k>`` is a run as ``train`` makes it, which ``evaluate`` and ``predict`` take by itself.  Called again,
    however it was stopped, it goes on: finished folds are left alone, an unfinished one ends in the weights that it
    would have had.  A fold whose training diverges is named, and the others go on.

    The scores over all patients are in ``RUN/evaluation``; threshold, kept components and temperature are
    chosen on them (see :mod:`lungseg.crossval_score`), and ``predict(RUN, ...)`` uses the mean of the folds with these.

    Args:
        processed: folder that ``preprocess`` wrote.
        run: folder of the cross-validated run; made here.
        n_folds: folds that the patients are parted into (default 5).
        splits: a file with the folds, such as nnU-Net's ``splits_final.json``.
        folds: which to train now: ``"all"``, ``"0,2"`` or numbers; those trained before are kept and scored too.
        recipe, loss, epochs, augment, inner_val, early_stop, seed, batch_size, learning_rate, precision, compile,
            neighbours: as for :func:`~lungseg.train.train`, the same for each fold.  What is left at None is what the
            run was started with.
        max_minutes: time limit of each fold's training, not of all together.
        device: as for ``train``, or several, ``cuda:0,cuda:1``, which train a fold each at a time; ``auto`` takes all
            GPUs that there are.
        workers, in_memory, limit_batches, deterministic: as for ``train``.

    Returns:
        Scores of all held-out patients of the folds that are trained.

    Raises:
        UsageError: a setting can not be meant; a patient is held out twice; the run was started with other settings.
        DataError: the preprocessed folder is unfinished or damaged; a patient would be scored by a network that was
            trained on it.
        TrainingError: the training of every fold diverged.
        IntegrityError, MachineError: as ``train``.
    """
    processed, run = local(processed), local(run)
    refuse_inside(run, processed)
    check_limits(max_minutes, limit_batches, workers)
    devices = devices_named(device)
    if not processed.is_dir():
        mend = "Name a folder that `lungseg preprocess` has written."
        raise UsageError.of("missing-folder", "there is no such folder", file=processed, mend=mend)
    manifest = Manifest.read(processed)
    if (run / CONFIG).exists():
        mend = "Choose another folder for the cross-validation."
        raise UsageError.of("run-exists", "holds a run of one fold already", file=run, mend=mend)
    overrides = {
        "loss": loss,
        "epochs": epochs,
        "inner_val": inner_val,
        "early_stop": early_stop,
        "seed": seed,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "precision": precision,
        "compile": compile,
        "neighbours": neighbours,
        "augment": augment if augment is None or isinstance(augment, str) else CUSTOM,
    }
    with folder_lock(run, stage=STAGE):
        before = folder_of.read_crossval(run) if is_crossval(run) else None
        chosen = check_recipe(base_recipe(recipe, before).but(**overrides))
        refuse_gaps(chosen.neighbours, manifest.slice_sets, processed)
        refuse_shards(chosen.neighbours, holds_shards(processed), processed)
        again = before is not None and n_folds is None and splits is None
        planned, source = folder_of.read_folds(run) if again else plan_folds(manifest, n_folds, splits)
        wanted = folds_named(folds, len(planned))
        recorded = before or {}
        given = {"max_minutes": max_minutes, "limit_batches": limit_batches, "deterministic": deterministic}
        limits: dict[str, Any] = {
            name: recorded.get(name, 0) if value is None else value for name, value in given.items()
        }
        audit(manifest, planned)
        config = folder_of.describe(chosen, planned, manifest, **limits)
        if before is not None:
            folder_of.refuse_other(run, config, planned)
        else:
            folder_of.begin(run, config, planned, source, processed)
        options = {
            **limits,
            "recipe": chosen,
            "augment": None if isinstance(augment, str) else augment,
            "splits": run / SPLITS,
            "workers": workers,
            "in_memory": in_memory,
        }
        work = partial(_train_folds, processed, run, options, len(planned))
        todo = [fold for fold in wanted if not is_done(run, fold)]
        diverged: list[Problem] = []
        if len(devices) == 1:
            diverged += work((devices[0], todo))
        else:
            shares = {name: (name, todo[index :: len(devices)]) for index, name in enumerate(devices)}
            busy = {name: share for name, share in shares.items() if share[1]}
            # Alone, it would be this very process, whose threads are not for a run to change.
            each = max(1, cores() // len(busy)) if len(busy) > 1 else None
            for outcome in run_cases(partial(work, threads=each), busy, workers=len(devices)):
                if outcome.error is not None:
                    raise outcome.error
                diverged += outcome.result or []
        if diverged and not any(is_done(run, fold) for fold in range(len(planned))):
            raise TrainingError(diverged[0], STAGE)
        evaluation = score_folds(run, device=devices[0].partition("#")[0])
    return replace(evaluation, diverged=tuple(diverged))


def plan_folds(manifest: Manifest, n_folds: int | None, splits: str | Path | None) -> tuple[list[Fold], str]:
    """The folds of a cross-validation, and where they come from, in words.

    Raises:
        UsageError: they can not be made or read; a patient is held out by two of them, and would be scored twice.
    """
    count = DEFAULT_FOLDS if n_folds is None else n_folds
    split = make_split(manifest.labelled, n_folds=count, splits=splits, inner_val=0.0)
    seen: dict[str, int] = {}
    for number, fold in enumerate(split.folds):
        for case in fold.val:
            if seen.setdefault(case, number) != number:
                raise UsageError.of(
                    "held-out-twice",
                    f"holds {case} out in fold {seen[case]} and in fold {number}",
                    expected="each patient held out once",
                    file=splits or manifest.root,
                    mend="Take it out of one of the two lists: a patient is scored once.",
                )
    return list(split.folds), split.source


def audit(manifest: Manifest, folds: Sequence[Fold]) -> None:
    """Look for leaks before anything is trained, when that still costs nothing.

    Raises:
        DataError: a scan that a fold holds out is one that it trains on, under whatever name.
    """
    for number, fold in enumerate(folds):
        check_unseen(manifest, Split(number, fold.train, (), fold.val, tuple(folds), ""))


def folds_named(folds: str | Sequence[int], n_folds: int) -> list[int]:
    """Numbers of folds, rising, from ``"all"``, ``"0,2"`` or numbers.

    Raises:
        UsageError: there is no such fold.
    """
    if folds == "all":
        return list(range(n_folds))
    words = folds.split(",") if isinstance(folds, str) else list(folds)
    try:
        numbers = sorted({int(word) for word in words})
    except (TypeError, ValueError):
        numbers = []
    if not numbers or numbers[0] < 0 or numbers[-1] >= n_folds:
        raise UsageError.of(
            "no-such-fold", "there is no such fold", expected=f"all, or some of 0 to {n_folds - 1}", found=str(folds)
        )
    return numbers


def devices_named(device: str) -> list[str]:
    """The devices that train at the same time, by names that differ: ``cpu,cpu`` is ``cpu`` and ``cpu#1``.

    Raises:
        UsageError: there is no such name.
        MachineError: this machine has no such device.
    """
    if device == "auto":
        import torch

        if torch.cuda.device_count() > 1:
            return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    names = device.split(",")
    for name in names:
        pick_device(name)
    return [name if names.index(name) == index else f"{name}#{index}" for index, name in enumerate(names)]


def _train_folds(
    processed: Path,
    run: Path,
    options: dict[str, Any],
    n_folds: int,
    share: tuple[str, list[int]],
    threads: int | None = None,
) -> list[Problem]:
    """Train some folds on one device, one after another; returns what diverged.

    Args:
        processed, run, options, n_folds: the same for every fold.
        share: name of the device, numbers of the folds.
        threads: that this process may use, where several train at the same time; more would wait for each other.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    device, folds = share
    diverged = []
    for fold in folds:
        print(f"fold {fold} of 0 to {n_folds - 1}", file=sys.stderr, flush=True)
        try:
            train(processed, fold_folder(run, fold), fold=fold, device=device.partition("#")[0], resume=True, **options)
        except TrainingError as error:
            diverged.append(replace(error.problem, what=f"fold {fold}: {error.problem.what}"))
        except LungsegError as error:
            raise type(error)(replace(error.problem, what=f"fold {fold}: {error.problem.what}"), error.stage) from error
    return diverged

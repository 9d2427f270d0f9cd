"""A training run: from a preprocessed folder to a folder with checkpoints, curves and a record of everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from . import run_folder as runs
from .augment import ENGINES, Augment, augment_named, from_albumentations, windowed
from .config import Recipe, recipe_from_dict, recipe_named
from .dataset import LungDataset
from .device import PRECISIONS, pick_device
from .errors import LungsegError, UsageError
from .executor import cores
from .files import folder_lock
from .fitting import fit, isolated, machine_facts, make_logger
from .loaders import MOST_WORKERS, SliceLoaders, fits_in_memory, fits_on_device
from .losses import LOSSES
from .manifest import Manifest
from .run_folder import RunResult
from .splits import Split, make_split
from .visualize.curves import training_curves

STAGE = "train"
DEFAULT_FOLDS = 5
CUSTOM = "custom"  # what a recipe calls an augmentation that is no name


def train(
    processed: str | Path,
    run: str | Path,
    *,
    recipe: str | Recipe | None = None,
    fold: int | None = None,
    n_folds: int | None = None,
    splits: str | Path | None = None,
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
    device: str = "auto",
    workers: int | None = None,
    in_memory: bool | None = None,
    logger: Literal["tensorboard"] | None = None,
    limit_batches: int | None = None,
    deterministic: bool | None = None,
    resume: bool = False,
) -> RunResult:
    """Train a network on the slices of a fold's training patients.

    The held-out patients are never touched; inner validation patients, set aside from the training ones, choose the
    checkpoint.  A run that was stopped at any moment ends in the same weights, byte for byte, when it is resumed on the
    same machine with the same number of threads, unless it has a time limit.

    Args:
        processed: folder that ``preprocess`` wrote.
        run: folder of the run; made here.
        recipe: a name of ``config.RECIPES`` or a :class:`~lungseg.config.Recipe`; ``classic`` where None.
        fold: which fold's patients are held out, from 0 (default 0).
        n_folds: folds that the patients are parted into (default 5).
        splits: a file with the folds, such as nnU-Net's ``splits_final.json``.
        loss, epochs, inner_val, early_stop, seed, batch_size, learning_rate, precision, compile: replace the recipe's.
        max_minutes: end after so many minutes, with the schedule finished; the last validation comes on top, and the
            run can not be repeated exactly.
        augment: ``torch``, ``imgaug`` or ``none``; or an :class:`~lungseg.augment.Augment`, or anything that is called
            as an Albumentations pipeline is.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        workers: processes that load slices; by default none where the slices fit in memory.
        in_memory: read all slices once; by default where they take less than 40 % of the free memory.
        logger: ``tensorboard`` writes ``RUN/tensorboard`` too (needs the package).
        limit_batches: at most so many training batches an epoch, for a quick look.
        deterministic: on a GPU, only algorithms whose results repeat (slower); a CPU's do anyway.
        resume: go on with the run that is there.  Settings left at None are the recorded ones.

    Returns:
        Where everything is and how it ended.

    Raises:
        UsageError: a setting can not be meant; there is no folder ``processed``; there is a run already; ``resume``
            with other settings.
        DataError: the preprocessed folder is unfinished or damaged.
        IntegrityError: the checkpoint to go on from is damaged.
        TrainingError: the loss is no finite number any more; the last good checkpoint is kept.
        MachineError: another process trains here; memory, disk or device fail.
    """
    processed, run = Path(processed), Path(run)
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
        "augment": augment if augment is None or isinstance(augment, str) else CUSTOM,
    }
    refuse_inside(run, processed)
    check_limits(max_minutes, limit_batches, workers)
    if not processed.is_dir():
        mend = "Name a folder that `lungseg preprocess` has written."
        raise UsageError.of("missing-folder", "there is no such folder", file=processed, mend=mend)
    manifest = Manifest.read(processed)
    target = pick_device(device)
    with folder_lock(run, stage=STAGE), isolated(target):
        before = runs.read_config(run) if resume and (run / runs.CONFIG).exists() else None
        chosen = check_recipe(base_recipe(recipe, before).but(**overrides))
        recorded = before or {}
        split = make_split(
            manifest.labelled,
            fold=recorded.get("fold", 0) if fold is None else fold,
            n_folds=recorded.get("n_folds", DEFAULT_FOLDS) if n_folds is None else n_folds,
            splits=run / runs.SPLITS if before and splits is None and n_folds is None else splits,
            inner_val=chosen.inner_val,
            seed=chosen.seed,
        )
        given = {"max_minutes": max_minutes, "limit_batches": limit_batches, "deterministic": deterministic}
        extras: dict[str, Any] = {
            name: recorded.get(name, 0) if value is None else value for name, value in given.items()
        }
        config = runs.describe(chosen, split, manifest, **extras)
        checkpoint = None
        if before:
            runs.refuse_other(run, config, split)
            if ended := runs.finished(run):
                return ended
            checkpoint = runs.newest_checkpoint(run)
        else:
            runs.refuse_started(run)
        engine, log = _engine(augment, chosen), make_logger(logger, run)
        data = _loaders(manifest, split, chosen, engine, workers, in_memory, config["limit_batches"], target)
        # Only now is it a run: what is refused above leaves nothing that would have to be resumed.
        runs.begin(run, config, split, processed, machine_facts(target, chosen.precision))
        in_module = engine if engine is not None and engine.on_device else None
        result = fit(run, config, chosen, data, in_module, target, logger=log, checkpoint=checkpoint)
        training_curves(result.metrics, result.curves)
        runs.finish(run, result)
        return result


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe as it is, its numbers checked.

    Raises:
        UsageError: one of them can not be meant.
    """
    whole = {"batch_size": 1, "epochs": 1, "early_stop": 0, "seed": 0}
    for name, least in whole.items():
        value = getattr(recipe, name)
        if type(value) is not int or value < least:
            raise _bad(name, f"a whole number of {least} or more", value)
    if not 0 < recipe.learning_rate < float("inf"):
        raise _bad("learning_rate", "above 0", recipe.learning_rate)
    for name in ("tumour_share", "average"):
        if not 0.0 <= getattr(recipe, name) < 1.0:
            raise _bad(name, "0 to below 1", getattr(recipe, name))
    choices = {
        "draw_by": ("slice", "patient"),
        "loss": tuple(LOSSES),
        "optimizer": ("adam", "adamw"),
        "schedule": ("constant", "one_cycle"),
        "precision": PRECISIONS,
        "augment": (*ENGINES, CUSTOM),
    }
    for name, values in choices.items():
        if getattr(recipe, name) not in values:
            raise _bad(name, " or ".join(values), getattr(recipe, name))
    return recipe


def check_limits(max_minutes: float | None, limit_batches: int | None, workers: int | None) -> None:
    """Raise :class:`UsageError` where one of them can not be meant; None is the default of each."""
    if max_minutes is not None and not 0 <= max_minutes < float("inf"):
        raise _bad("max_minutes", "0 (no limit) or more", max_minutes)
    for name, number in (("limit_batches", limit_batches), ("workers", workers)):
        if number is not None and (type(number) is not int or number < 0):
            raise _bad(name, "a whole number of 0 or more", number)


def refuse_inside(run: Path, processed: Path) -> None:
    """Raise :class:`UsageError` where the run's folder would lie inside the preprocessed one."""
    if processed.resolve() in (run.resolve(), *run.resolve().parents):
        raise UsageError.of(
            "run-in-data",
            "the run's folder lies inside the preprocessed folder",
            file=run,
            mend="Name a folder outside it: a stage never changes its input.",
        )


def _bad(name: str, expected: str, found: Any) -> LungsegError:
    return UsageError.of("bad-setting", f"the setting {name} can not be meant", expected=expected, found=str(found))


def base_recipe(recipe: str | Recipe | None, before: dict[str, Any] | None) -> Recipe:
    """The recipe that is named or given; else the one of a run's record ``before``; else ``classic``."""
    if recipe is None and before is not None:
        return recipe_from_dict(before["recipe"])
    return recipe if isinstance(recipe, Recipe) else recipe_named(recipe or "classic")


def _engine(augment: Any, recipe: Recipe) -> Augment | None:
    """The augmentation; an object that is no engine is taken as an Albumentations pipeline."""
    if recipe.augment != CUSTOM:
        return augment_named(recipe.augment, recipe.augmentation, compiled=recipe.compile)
    if augment is None or isinstance(augment, str):
        mend = "Give the same augment= as at its start (from Python; the command has no way to)."
        raise UsageError.of("custom-augment", "the run was started with an augmentation of your own", mend=mend)
    engine: Augment = augment if hasattr(augment, "on_device") else from_albumentations(augment)
    return windowed(engine, recipe.augmentation)


def _loaders(
    manifest: Manifest,
    split: Split,
    recipe: Recipe,
    engine: Augment | None,
    workers: int | None,
    in_memory: bool | None,
    limit: int,
    device: torch.device,
) -> SliceLoaders:
    n_slices = sum(len(manifest.record(case).slices) for case in (*split.train, *split.inner_val))
    keep = fits_in_memory(n_slices, manifest.config.size) if in_memory is None else in_memory
    in_workers = engine if engine is not None and not engine.on_device else None
    if workers is None:
        # Gathering from memory is quicker than any traffic between processes.
        workers = 0 if keep and in_workers is None else min(cores(), MOST_WORKERS)
    training = LungDataset(manifest, split.train, augment=in_workers, seed=recipe.seed, in_memory=keep, with_index=True)
    validation = None
    if split.inner_val:
        validation = LungDataset(manifest, split.inner_val, in_memory=keep, with_index=True)
    gather = keep and workers == 0 and fits_on_device(n_slices, manifest.config.size, device)
    return SliceLoaders(
        training,
        validation,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        workers=workers,
        limit=limit,
        resident=device if gather else None,
        share=recipe.tumour_share,
        by=recipe.draw_by,
    )

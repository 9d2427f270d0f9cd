"""A training run: from a preprocessed folder to a folder with checkpoints, curves and a record of everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from . import run_folder as runs
from .augment import Augment
from .checkpoint import FOLDER
from .config import Recipe
from .device import pick_device
from .errors import LungsegError, UsageError
from .files import clear_temporary
from .fitting import fit, isolated, machine_facts, make_logger
from .folder_lock import folder_lock
from .going_on import newest_checkpoint, refuse_other, refuse_started
from .launch import launch
from .leakage import check_other_files
from .manifest import Manifest
from .parallel import check_place, check_shares, own_device
from .place import local
from .placement import Place, find_place
from .run_folder import RunResult
from .shards import is_address
from .splits import Split, make_split
from .team import joined
from .training_data import run_engine, run_loaders, shards_at
from .training_settings import CUSTOM, DEFAULT_FOLDS, base_recipe, check_limits, check_recipe, refuse_inside
from .visualize.curves import training_curves

STAGE = "train"
ENDED = ""  # in place of a checkpoint to go on from


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
    neighbours: int | None = None,
    device: str = "auto",
    devices: int | None = None,
    nodes: int | None = None,
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
        processed: folder that ``preprocess`` wrote; or shards that ``shard`` made of it, in a folder or an object store
            (``s3://bucket/folder``), which are streamed.
        run: folder of the run; made here.
        recipe: a name of ``config.RECIPES`` or a :class:`~lungseg.config.Recipe`; ``classic`` where None.
        fold: which fold's patients are held out, from 0 (default 0).
        n_folds: folds that the patients are parted into (default 5).
        splits: a file with the folds, such as nnU-Net's ``splits_final.json``.
        loss, epochs, inner_val, early_stop, seed, batch_size, learning_rate, precision, compile, neighbours: replace
            the recipe's.
        max_minutes: end after so many minutes, with the schedule finished; the last validation comes on top, and the
            run can not be repeated exactly.
        augment: ``torch``, ``imgaug`` or ``none``; or an :class:`~lungseg.augment.Augment`, or anything that is called
            as an Albumentations pipeline is.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        devices: how many of this kind train together on each node, a process each (default 1); ``batch_size`` is of all
            together.  See docs/several_devices.md.
        nodes: how many nodes train together (default 1); each is given the same command.
        workers: processes that load slices, for each device; by default none where the slices fit in memory.
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
        MachineError: another process trains here; memory, disk or device fail; one of several processes was killed,
            which is named.
    """
    settings = dict(locals())
    run = local(run)
    place = find_place(settings.pop("devices"), settings.pop("nodes"))
    if not is_address(processed):
        refuse_inside(run, Path(processed))
    check_limits(max_minutes, limit_batches, workers)
    if not is_address(processed) and not Path(processed).is_dir():
        mend = "Name a folder that `lungseg preprocess` has written."
        raise UsageError.of("missing-folder", "there is no such folder", file=processed, mend=mend)
    check_place(place, pick_device(device))
    if not place.starts:
        return _train(place, **settings)
    try:
        launch(place, partial(_train, **settings))
    finally:
        if place.rank == 0:
            _tidy(run)
    result = runs.finished(run)
    assert result is not None
    return result


def _train(
    place: Place,
    *,
    processed: str | Path,
    run: str | Path,
    recipe: str | Recipe | None,
    fold: int | None,
    n_folds: int | None,
    splits: str | Path | None,
    augment: Any,
    device: str,
    workers: int | None,
    in_memory: bool | None,
    logger: str | None,
    resume: bool,
    max_minutes: float | None,
    limit_batches: int | None,
    deterministic: bool | None,
    **overrides: Any,
) -> RunResult:
    """:func:`train` in one process of a run, at ``place``; what is not named changes the recipe."""
    run = Path(run)
    overrides["augment"] = augment if augment is None or isinstance(augment, str) else CUSTOM
    shards = shards_at(processed)
    manifest = Manifest.read(processed) if shards is None else shards.manifest
    target = own_device(place, pick_device(device))
    with contextlib.ExitStack() as stack:
        team = stack.enter_context(joined(place, target))
        team.agree(lambda: stack.enter_context(folder_lock(run, stage=STAGE)))
        stack.enter_context(isolated(target))
        started = resume and (run / runs.CONFIG).exists()
        before = team.agree(lambda: runs.read_config(run) if started else None)
        chosen = check_recipe(base_recipe(recipe, before).but(**overrides))
        check_shares(place, target, chosen)
        recorded = before or {}
        split = make_split(
            manifest.labelled,
            fold=recorded.get("fold", 0) if fold is None else fold,
            n_folds=recorded.get("n_folds", DEFAULT_FOLDS) if n_folds is None else n_folds,
            splits=run / runs.SPLITS if before and splits is None and n_folds is None else splits,
            inner_val=chosen.inner_val,
            seed=chosen.seed,
        )
        # By their files alone: held-out slices are not even read. `evaluate` compares the pictures as well.
        check_other_files(manifest, split)
        given = {"max_minutes": max_minutes, "limit_batches": limit_batches, "deterministic": deterministic}
        extras: dict[str, Any] = {
            name: recorded.get(name, 0) if value is None else value for name, value in given.items()
        }
        config = runs.describe(chosen, split, manifest, **extras)
        if shards is not None:
            config["data"]["streamed"] = True
        checkpoint = team.agree(lambda: _go_on_from(run, config, split, before))
        if checkpoint == ENDED:
            ended = runs.finished(run)
            assert ended is not None
            return ended
        engine, log = run_engine(augment, chosen), make_logger(logger, run)
        asked: dict[str, Any] = {"workers": workers, "in_memory": in_memory, "limit": config["limit_batches"]}
        data = run_loaders(shards or manifest, split, chosen, engine, device=target, place=place, **asked)
        # Only now is it a run: what is refused above leaves nothing that would have to be resumed.
        facts = machine_facts(target, chosen.precision, place)
        if shards is not None:
            facts["stream_workers"] = data.workers  # the order of the slices depends on it
        team.agree(lambda: runs.begin(run, config, split, processed, facts))
        in_module = engine if engine is not None and engine.on_device else None
        way = run / checkpoint if checkpoint else None
        result = fit(run, config, chosen, data, in_module, target, logger=log, checkpoint=way, place=place)
        team.agree(lambda: _written(run, result))
        return result


def _go_on_from(run: Path, config: dict[str, Any], split: Split, before: dict[str, Any] | None) -> str | None:
    """The checkpoint to go on from, relative to the run; None for the start; :data:`ENDED` where nothing is left to do.

    Raises:
        LungsegError: the run may not start, or go on, here.
    """
    if before is None:
        refuse_started(run)
        return None
    refuse_other(run, config, split)
    if runs.finished(run):
        return ENDED
    newest = newest_checkpoint(run)
    return None if newest is None else newest.relative_to(run).as_posix()


def _tidy(run: Path) -> None:
    """Remove what processes that were killed left half written, unless another run writes there."""
    if run.is_dir():
        with contextlib.suppress(LungsegError), folder_lock(run, stage=STAGE):
            clear_temporary(run / FOLDER)


def _written(run: Path, result: RunResult) -> None:
    training_curves(result.metrics, result.curves)
    runs.finish(run, result)

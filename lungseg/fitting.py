"""Lightning's trainer, set up for a run: its devices, whole checkpoints, plain words, nothing left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch.utils.data._utils.signal_handling import _set_SIGCHLD_handler

from .augment import Augment
from .callbacks import EndOfRun, EpochLog, NonFiniteGuard
from .checkpoint import FOLDER
from .config import Recipe
from .device import fast_at_bf16
from .errors import LungsegError, MachineError, UsageError
from .files import clear_temporary, make_folder, require_free_space
from .lightning_module import LungSegmenter
from .loaders import SliceLoaders
from .parallel import trainer_options
from .placement import Place
from .progress import on_terminal
from .run_folder import METRICS, RunResult
from .saving import run_checkpoints
from .team import is_lost, lost_rank
from .unet import parameter_count

if TYPE_CHECKING:  # an extra
    from .streaming import StreamLoaders

STAGE = "train"
# A checkpoint holds each weight three times over (Adam keeps two moments), four times with its average; there are best
# and last, and one being written.
BYTES_A_WEIGHT, CHECKPOINTS = 4, 3
# Steps on a GPU after which its results are looked at; each look makes the program and the GPU wait for each other.
LOOK_EVERY = 64


def fit(
    run: Path,
    config: dict[str, Any],
    recipe: Recipe,
    data: SliceLoaders | StreamLoaders,
    augment: Augment | None,
    device: torch.device,
    *,
    logger: TensorBoardLogger | None = None,
    checkpoint: Path | None = None,
    place: Place = Place(),  # noqa: B008 (frozen, so safe to share)
) -> RunResult:
    """Train until the run ends.

    Args:
        run: folder of the run.
        config: what decides it (:func:`lungseg.run_folder.describe`); kept in the checkpoints.
        recipe: the same recipe as in ``config``.
        data: the batches.
        augment: applied on the device.
        device: where to train.
        logger: from :func:`make_logger`.
        checkpoint: to go on from.
        place: of this process among those of the run, which have met (:func:`lungseg.team.joined`).

    Raises:
        LungsegError: see :func:`lungseg.train.train`.
        KeyboardInterrupt: by Ctrl-C.
    """
    cases = data.validation.cases if data.validation is not None else ()
    limits: dict[str, Any] = {"steps_per_epoch": data.steps_per_epoch, "max_minutes": config["max_minutes"]}
    look_every = LOOK_EVERY if device.type == "cuda" else 1
    limits |= {"log_every": look_every, "epoch_slices": data.epoch_slices}
    module = LungSegmenter(config, cases=cases, augment=augment, **limits)
    folder = make_folder(run / FOLDER)
    if place.rank == 0:
        clear_temporary(folder)
    copies = 3 if module.averaged is None else 4
    need = parameter_count(module.net) * copies * BYTES_A_WEIGHT * CHECKPOINTS
    require_free_space(folder, need, stage=STAGE)
    end = EndOfRun(config["max_minutes"], recipe.early_stop if cases else 0)
    bar = on_terminal() and sys.stdout.isatty() and place.rank == 0  # Lightning's bar is on standard output
    callbacks: list[pl.Callback] = [
        EpochLog(run / METRICS, recipe.epochs, lines=not bar),
        NonFiniteGuard(look_every=look_every),
        end,
        *run_checkpoints(folder, validated=bool(cases)),
        *([TQDMProgressBar(refresh_rate=look_every)] if bar else []),
    ]
    trainer = pl.Trainer(
        **trainer_options(place, device, repeatable=config["deterministic"], norm=recipe.unet.norm),
        precision="bf16-mixed" if uses_bf16(device, recipe.precision) else "32-true",
        max_epochs=recipe.epochs,
        limit_train_batches=data.steps_per_epoch,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        callbacks=callbacks,
        logger=logger or False,
        log_every_n_steps=10,
        default_root_dir=run,
        enable_progress_bar=bar,
        enable_model_summary=False,
        # Trying every algorithm takes a quarter of a minute for each shape of batch: like compiling, for long runs.
        benchmark=device.type == "cuda" and recipe.compile and not config["deterministic"],
        deterministic=config["deterministic"],
    )
    if data.workers:
        # torch notices a killed worker by a handler that it installs once a process.  Lightning puts back the handlers
        # that it found, and a second run in this process would wait for HANG_S: so it has to find torch's.
        _set_SIGCHLD_handler()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as error:
        if trainer.received_sigterm or isinstance(error, SIGTERMException):
            # Lightning's own exception would end the process with status 0, as if the run had been finished.
            raise SystemExit(128 + signal.SIGTERM) from None
        # Lightning ends the process where Ctrl-C was pressed; that is for the caller to decide.
        raise KeyboardInterrupt from None
    except LungsegError as error:
        raise type(error)(error.problem, error.stage or STAGE) from error
    except RuntimeError as error:
        raise _explained(error) from error
    score = end.best if cases else None
    return RunResult(run, end.epoch, end.best_epoch, score, end.reason, round(module.elapsed_s / 60.0, 2))


def uses_bf16(device: torch.device, precision: str) -> bool:
    """Whether ``precision`` (of a recipe) means bf16 on this device."""
    return precision == "bf16" or (precision == "auto" and fast_at_bf16(device))


def machine_facts(device: torch.device, precision: str, place: Place) -> dict[str, Any]:
    """What a run was trained on, for its config.json: the same weights again need the same of all these."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "name": name,
        "devices": place.devices,
        "nodes": place.nodes,
        "threads": torch.get_num_threads(),
        "precision": "bf16" if uses_bf16(device, precision) else "32",
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
    }


@contextlib.contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Leave the process as it was: random state, signal handlers, loggers, filters of warnings, algorithms."""
    devices = [device.index or 0] if device.type == "cuda" else []
    handler = signal.getsignal(signal.SIGINT)
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        # What Lightning has to say is about its own options, which the user of this package does not set.
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark
            if workspace is None:
                os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)


def make_logger(name: str | None, run: Path) -> TensorBoardLogger | None:
    """The logger called ``name``, ``tensorboard``, beside the CSV that is always written; None for None.

    Raises:
        UsageError: there is no such logger, or it is not installed.
    """
    if name is None:
        return None
    if name != "tensorboard":
        raise UsageError.of("unknown-logger", "there is no such logger", expected="tensorboard", found=name)
    try:
        return TensorBoardLogger(run, name="tensorboard", version="")
    except ModuleNotFoundError as cause:
        mend = "Install it: pip install tensorboard"
        raise UsageError.of("no-tensorboard", "TensorBoard is not installed", mend=mend) from cause


def _explained(error: RuntimeError) -> Exception:
    """torch's errors of memory and of loading processes in plain words; any other as it is."""
    text = str(error)
    if is_lost(error):
        return lost_rank(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        mend = "Use a smaller --batch-size or a narrower recipe."
        return MachineError.of("out-of-memory", "there is not enough memory", found=text[:120], mend=mend, stage=STAGE)
    if "DataLoader" in text:
        what = "a process that loads slices was killed or hangs"
        mend = "Go on by --resume; with --loader-workers 0 no such process is used."
        return MachineError.of("loader-died", what, found=text.splitlines()[0][:160], mend=mend, stage=STAGE)
    return error

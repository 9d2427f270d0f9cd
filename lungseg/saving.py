"""Lightning's ``ModelCheckpoint`` with :mod:`lungseg.checkpoint` underneath: whole files, SHA-256, no pickle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import CheckpointIO

from .checkpoint import BEST, LAST, digest_file, load_checkpoint, save_checkpoint
from .ranks import from_first

# A checkpoint is written when writing takes at most this share of the time since the one before: of a small network on
# a GPU, two files an epoch would take longer than the epoch.  What a kill costs is trained again, to the same bits.
SHARE_OF_TIME = 0.05


class VerifiedIO(CheckpointIO):
    """Saves and loads every checkpoint of a trainer through :mod:`lungseg.checkpoint`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return load_checkpoint(path, map_location=map_location)

    def remove_checkpoint(self, path: Any) -> None:
        for file in (Path(path), digest_file(path)):
            file.unlink(missing_ok=True)


class EpochCheckpoint(ModelCheckpoint):
    """One checkpoint under a fixed name, replaced at the end of each epoch in which ``monitor`` is better than ever.

    Its state names files without their folder, so that a checkpoint holds no path of the machine and a run can move.

    Args:
        folder: where it lies.
        name: of the file.
        monitor: what has to be better; None for every epoch.
        spared: whether epochs may be left out, so that writing takes little of the time (:data:`SHARE_OF_TIME`); the
            first and the last never are.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None, *, spared: bool = False) -> None:
        super().__init__(
            dirpath=folder,
            filename=Path(name).stem,
            monitor=monitor,
            mode="max",
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.spared = spared
        self._due = 0.0  # when the next one may be written, seconds of the monotonic clock

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        started = time.monotonic()
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if self.spared and not ends and from_first(started - self._due) < 0.0:
            return
        super().on_train_epoch_end(trainer, pl_module)
        now = time.monotonic()
        self._due = now + (now - started) / SHARE_OF_TIME

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = Path(state[key]).name
        state["best_k_models"] = {Path(path).name: score for path, score in state["best_k_models"].items()}
        return {**state, "dirpath": ""}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))
        state = {**state_dict, "dirpath": self.dirpath}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = str(folder / state[key]) if state[key] else ""
        state["best_k_models"] = {str(folder / name): s for name, s in state["best_k_models"].items()}
        super().load_state_dict(state)


def run_checkpoints(folder: Path, *, validated: bool) -> list[EpochCheckpoint]:
    """``best.ckpt`` and ``last.ckpt`` in ``folder``.

    Args:
        folder: of the checkpoints.
        validated: whether there are inner validation patients; without, the best is the last.
    """
    best = EpochCheckpoint(folder, BEST, "val_dice" if validated else "epoch", spared=not validated)
    return [best, EpochCheckpoint(folder, LAST, None, spared=True)]

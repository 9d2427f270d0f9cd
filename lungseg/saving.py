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

# Checkpoints are written when writing takes at most this share of the time since they were: of a small network on a
# GPU, two files an epoch would take longer than the epoch.  What a kill costs is trained again, to the same bits.
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


class Pace:
    """Which epochs are written: the first and the last of a run, and as many between as :data:`SHARE_OF_TIME` allows.

    The two checkpoints of a run share one, so that they are of the same epoch, or ``best`` of an earlier one.
    """

    def __init__(self) -> None:
        self.now = False  # whether this epoch is written
        self._due, self._started = 0.0, 0.0  # seconds of the monotonic clock

    def begin(self, trainer: pl.Trainer) -> None:
        """Decide for the epoch that ends; all processes of a run alike."""
        self._started = time.monotonic()
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        self.now = ends or from_first(self._started - self._due) >= 0.0

    def end(self) -> None:
        """All of this epoch's files are written."""
        now = time.monotonic()
        self._due = now + (now - self._started) / SHARE_OF_TIME


class EpochCheckpoint(ModelCheckpoint):
    """One checkpoint under a fixed name, replaced where ``monitor`` is better than ever, at the end of some epochs.

    Its state names files without their folder, so that a checkpoint holds no path of the machine and a run can move.

    Args:
        folder: where it lies.
        name: of the file.
        monitor: what has to be better; None for every epoch.
        pace: of the run; a new one where None.

    Attributes:
        written: epochs that the weights in the file were trained for, of this or the resumed run; 0 without a file.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None, pace: Pace | None = None) -> None:
        super().__init__(
            dirpath=folder,
            filename=Path(name).stem,
            monitor=monitor,
            mode="max",
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.pace, self.written = pace or Pace(), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.written = trainer.current_epoch

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

    def _written_now(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        super().on_train_epoch_end(trainer, pl_module)
        done = self._last_global_step_saved == trainer.global_step
        self.written = trainer.current_epoch + 1 if done else self.written
        return done


class BestCheckpoint(EpochCheckpoint):
    """The best epoch's: never left out where patients tell it, and then the last one is written too."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.pace.begin(trainer)
        if self.pace.now or self.monitor == "val_dice":
            self.pace.now |= self._written_now(trainer, pl_module)


class LastCheckpoint(EpochCheckpoint):
    """The last epoch's, to go on from; stands behind :class:`BestCheckpoint`."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.pace.now:
            self._written_now(trainer, pl_module)
            self.pace.end()


def run_checkpoints(folder: Path, *, validated: bool) -> list[EpochCheckpoint]:
    """``best.ckpt`` and ``last.ckpt`` in ``folder``.

    Args:
        folder: of the checkpoints.
        validated: whether there are inner validation patients; without, the best is the last.
    """
    pace = Pace()
    best = BestCheckpoint(folder, BEST, "val_dice" if validated else "epoch", pace)
    return [best, LastCheckpoint(folder, LAST, None, pace)]

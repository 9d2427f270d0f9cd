"""What a run does beside learning: its record by epoch, and when it ends."""

from __future__ import annotations

import csv
import io
import math
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from .checkpoint import LAST
from .errors import TrainingError
from .files import atomic_write
from .lightning_module import LungSegmenter
from .ranks import from_first, own_share

COLUMNS = ("epoch", "train_loss", "val_loss", "val_dice", "val_soft_dice_pooled", "lr", "seconds")
NON_FINITE_LIMIT = 3  # batches in a row whose loss is no number, after which training is given up


class EpochLog(pl.Callback):
    """Writes ``metrics.csv``, one row an epoch, and with ``lines`` prints each as a plain line on standard error.

    The row stands before the epoch's checkpoint does.  A row of an epoch that is trained again after a kill takes the
    place of the old one.

    Args:
        path: the CSV file.
        epochs: of the whole run, for the lines.
        lines: whether to print.
    """

    def __init__(self, path: Path, epochs: int, *, lines: bool) -> None:
        self.path, self.epochs, self.lines = path, epochs, lines
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if own_share().rank:
            return
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        row |= {name: float(trainer.callback_metrics[name]) for name in COLUMNS if name in trainer.callback_metrics}
        row["seconds"] = time.monotonic() - self._started
        earlier = [old for old in read_metrics(self.path) if old["epoch"] < row["epoch"]]
        write_metrics(self.path, [*earlier, row])
        if self.lines:
            shown = "".join(f"  {name} {row[name]:.4g}" for name in COLUMNS[1:-2] if name in row)
            text = f"epoch {row['epoch']}/{self.epochs}{shown}  {row['seconds']:.0f} s"
            print(text, file=sys.stderr, flush=True)


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.csv``; a value that an epoch did not have is left out.  No file is no rows."""
    try:
        text = Path(path).read_text("ascii")
    except FileNotFoundError:
        return []
    return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(io.StringIO(text))]


def write_metrics(path: str | Path, rows: list[dict[str, float]]) -> None:
    """Write ``metrics.csv`` in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        whole = {"epoch": int(row["epoch"]), "seconds": round(row["seconds"], 2)}
        writer.writerow({name: f"{value:.8g}" for name, value in row.items()} | whole)
    atomic_write(path, text.getvalue().encode("ascii"), durable=True)


class NonFiniteGuard(pl.Callback):
    """Ends training where the loss is NaN or infinite several batches in a row; checkpoints of before are kept.

    Args:
        limit: batches in a row.
        look_every: batches after which the losses are looked at.  Looking makes the program wait for a GPU, which then
            has nothing to do while the next batch is being prepared; so there they are kept where they are till then.

    Raises:
        TrainingError: out of ``fit``.
    """

    def __init__(self, limit: int = NON_FINITE_LIMIT, look_every: int = 1) -> None:
        self.limit, self.look_every = limit, look_every
        self._losses: list[torch.Tensor] = []  # not yet looked at
        self._in_a_row, self._longest = 0, 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        self._losses.append(loss.detach())
        if (batch_idx + 1) % self.look_every == 0:
            self._look(trainer, loss)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer, None)

    def _look(self, trainer: pl.Trainer, loss: torch.Tensor | None) -> None:
        for value in torch.stack(self._losses).tolist() if self._losses else []:
            self._in_a_row = 0 if math.isfinite(value) else self._in_a_row + 1
            self._longest = max(self._longest, self._in_a_row)
        self._losses.clear()
        if self._longest < self.limit:
            return
        done = max((getattr(each, "written", 0) for each in trainer.checkpoint_callbacks), default=0)
        kept = f"{LAST} holds the weights after epoch {done}" if done else "no epoch was finished, so none is kept"
        raise TrainingError.of(
            "non-finite-loss",
            f"the loss is no finite number in {self.limit} batches in a row, at step {trainer.global_step}; {kept}",
            found="" if loss is None else str(float(loss)),
            mend="Train again with a lower --learning-rate, or with --precision 32.",
        )


class EndOfRun(pl.Callback):
    """Ends a run at its time limit or when it no longer gets better.

    Args:
        max_minutes: time limit; it ends after the step that exceeds it, and a last validation follows; 0 is none.
        early_stop: epochs without a better ``val_dice``; 0 is none.

    Attributes:
        reason: ``epochs``, ``time`` or ``early stop``.
        best: the best ``val_dice``, -1.0 before there is one.
        best_epoch: its epoch, counted from 1.
    """

    def __init__(self, max_minutes: float = 0.0, early_stop: int = 0) -> None:
        self.max_minutes, self.early_stop = max_minutes, early_stop
        self.reason, self.best, self.best_epoch, self.epoch = "epochs", -1.0, 0, 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.epoch = state_dict["epoch"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that was killed after its last checkpoint has nothing left to do when it is resumed."""
        if trainer.global_step:  # however short the limit, there is a first step, so that there is a checkpoint
            self._check(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epoch = trainer.current_epoch + 1
        score = trainer.callback_metrics.get("val_dice")
        if score is None or float(score) > self.best:
            self.best, self.best_epoch = -1.0 if score is None else float(score), self.epoch
        self._check(trainer, pl_module)

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, LungSegmenter)
        if self.max_minutes and from_first(pl_module.elapsed_s) >= 60.0 * self.max_minutes:
            self.reason = "time"
        elif self.early_stop and self.epoch - self.best_epoch >= self.early_stop:
            self.reason = "early stop"
        trainer.should_stop = trainer.should_stop or self.reason != "epochs"
        if trainer.received_sigterm:
            # Lightning itself would wait for the end of the epoch and then report success.
            raise SystemExit(128 + signal.SIGTERM)

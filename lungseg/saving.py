"""Lightning's ``ModelCheckpoint`` with :mod:`lungseg.checkpoint` underneath: whole files, SHA-256, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import CheckpointIO

from .checkpoint import BEST, LAST, digest_file, load_checkpoint, save_checkpoint


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
    """

    def __init__(self, folder: Path, name: str, monitor: str | None) -> None:
        super().__init__(
            dirpath=folder,
            filename=Path(name).stem,
            monitor=monitor,
            mode="max",
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

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
    return [EpochCheckpoint(folder, BEST, "val_dice" if validated else "epoch"), EpochCheckpoint(folder, LAST, None)]

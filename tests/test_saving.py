"""Lightning's callbacks on top of the package's own files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lungseg import saving
from lungseg.checkpoint import digest_file, load_checkpoint
from lungseg.errors import IntegrityError
from lungseg.saving import EpochCheckpoint, VerifiedIO, run_checkpoints

CONTENT = {"state_dict": {"net.a": torch.ones(2)}, "hyper_parameters": {"config": {}}}


def test_the_plugin_saves_checks_and_removes_both_files(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    VerifiedIO().save_checkpoint(CONTENT, path)
    assert digest_file(path).exists()
    assert torch.equal(VerifiedIO().load_checkpoint(path)["state_dict"]["net.a"], torch.ones(2))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IntegrityError):
        VerifiedIO().load_checkpoint(path, weights_only=False)
    VerifiedIO().remove_checkpoint(path)
    assert list(tmp_path.iterdir()) == []
    VerifiedIO().remove_checkpoint(path)  # nothing there is nothing to do


def test_the_state_of_a_callback_names_no_folder_and_moves(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    before = EpochCheckpoint(old, "best.ckpt", "val_dice")
    before.best_model_path = before.kth_best_model_path = str(old / "best.ckpt")
    before.best_k_models = {str(old / "best.ckpt"): torch.tensor(0.5)}
    before.best_model_score = torch.tensor(0.5)
    state = before.state_dict()
    assert str(tmp_path) not in json.dumps(state, default=str)
    after = EpochCheckpoint(new, "best.ckpt", "val_dice")
    after.load_state_dict(state)
    assert after.best_model_path == after.kth_best_model_path == str(new / "best.ckpt")
    assert after.best_k_models == {str(new / "best.ckpt"): torch.tensor(0.5)}
    assert after.last_model_path == ""


def test_best_follows_the_patients_dice_only_where_there_are_any(tmp_path: Path) -> None:
    assert [(c.filename, c.monitor) for c in run_checkpoints(tmp_path, validated=True)] == [
        ("best", "val_dice"),
        ("last", None),
    ]
    assert run_checkpoints(tmp_path, validated=False)[0].monitor == "epoch"


@pytest.mark.parametrize(
    ("validated", "stops_at", "best", "last"),
    [
        (False, 12, [1, 11, 12], [1, 11, 12]),  # writing both takes 2 s, so the next 40 s write none
        (False, 8, [1, 8], [1, 8]),
        (True, 12, [1, 3, 4], [1, 3, 4, 12]),  # better in epochs 3 and 4: these are written, and the last with them
    ],
)
def test_writing_takes_a_twentieth_of_the_time_and_the_best_epoch_and_the_end_are_never_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validated: bool, stops_at: int, best: list[int], last: list[int]
) -> None:
    clock, written = SimpleNamespace(now=0.0), {"best": [], "last": []}
    monkeypatch.setattr(saving.time, "monotonic", lambda: clock.now)

    def write(self: Any, trainer: Any, module: Any) -> None:
        if self.monitor != "val_dice" or trainer.current_epoch + 1 in (1, 3, 4):
            written[self.filename].append(trainer.current_epoch + 1)
            self._last_global_step_saved = trainer.global_step
            clock.now += 1.0

    monkeypatch.setattr(saving.ModelCheckpoint, "on_train_epoch_end", write)
    checkpoints = run_checkpoints(tmp_path, validated=validated)
    for epoch in range(stops_at):
        clock.now += 4.0
        ends = epoch + 1 == stops_at
        trainer: Any = SimpleNamespace(
            current_epoch=epoch, max_epochs=12, should_stop=ends, global_step=10 * epoch + 10
        )
        for checkpoint in checkpoints:
            checkpoint.on_train_epoch_end(trainer, trainer)
    assert written == {"best": best, "last": last}
    assert [checkpoint.written for checkpoint in checkpoints] == [best[-1], last[-1]]


def test_what_the_plugin_writes_the_package_reads(tmp_path: Path) -> None:
    VerifiedIO().save_checkpoint(CONTENT, tmp_path / "best.ckpt")
    assert load_checkpoint(tmp_path / "best.ckpt")["hyper_parameters"] == {"config": {}}

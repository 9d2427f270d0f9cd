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


@pytest.mark.parametrize(("stops_at", "expected"), [(12, [1, 6, 11, 12]), (8, [1, 6, 8])])
def test_writing_takes_a_twentieth_of_the_time_at_most_and_the_end_is_never_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops_at: int, expected: list[int]
) -> None:
    clock, written = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(saving.time, "monotonic", lambda: clock.now)

    def write(self: Any, trainer: Any, module: Any) -> None:
        written.append(trainer.current_epoch + 1)
        clock.now += 1.0

    monkeypatch.setattr(saving.ModelCheckpoint, "on_train_epoch_end", write)
    best, last = run_checkpoints(tmp_path, validated=True)
    for epoch in range(stops_at):
        clock.now += 4.0
        trainer: Any = SimpleNamespace(current_epoch=epoch, max_epochs=12, should_stop=epoch + 1 == stops_at)
        last.on_train_epoch_end(trainer, trainer)
    assert written == expected
    assert last.spared and not best.spared  # the best epoch is never left out, where patients tell it
    assert all(checkpoint.spared for checkpoint in run_checkpoints(tmp_path, validated=False))


def test_what_the_plugin_writes_the_package_reads(tmp_path: Path) -> None:
    VerifiedIO().save_checkpoint(CONTENT, tmp_path / "best.ckpt")
    assert load_checkpoint(tmp_path / "best.ckpt")["hyper_parameters"] == {"config": {}}

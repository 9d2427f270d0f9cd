"""The record by epoch, the guard against NaN, and the end of a run, each on its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lungseg.callbacks import COLUMNS, EndOfRun, EpochLog, NonFiniteGuard, read_metrics, write_metrics
from lungseg.config import Recipe, UNetConfig, to_dict
from lungseg.errors import TrainingError
from lungseg.lightning_module import LungSegmenter


def trainer(epoch: int = 0, step: int = 1, **metrics: float) -> Any:
    """As much of a trainer as the callbacks look at; its checkpoints were written after ``epoch`` epochs."""
    tensors = {name: torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(
        current_epoch=epoch, global_step=step, callback_metrics=tensors, should_stop=False, received_sigterm=False,
        checkpoint_callbacks=[SimpleNamespace(written=epoch)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def module() -> LungSegmenter:
    return LungSegmenter({"recipe": to_dict(Recipe(unet=UNetConfig(widths=(2, 4))))})


def log_epoch(log: EpochLog, epoch: int, **metrics: float) -> None:
    log.on_train_epoch_start(trainer(), None)
    log.on_train_epoch_end(trainer(epoch, **metrics), None)


def test_rows_are_added_and_a_repeated_epoch_replaces_what_came_after(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for epoch, loss in ((0, 0.5), (1, 0.25), (2, 0.75), (1, 0.125)):
        log_epoch(EpochLog(path, 9, lines=False), epoch, train_loss=loss, val_dice=0.1, lr=1e-4, other=3.0)
    rows = read_metrics(path)
    assert [(row["epoch"], row["train_loss"]) for row in rows] == [(1, 0.5), (2, 0.125)]
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert rows[0].keys() == {"epoch", "train_loss", "val_dice", "lr", "seconds"}


def test_lines_are_plain_and_go_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    log_epoch(EpochLog(tmp_path / "metrics.csv", 30, lines=True), 4, train_loss=0.123456, val_dice=0.5)
    out = capsys.readouterr()
    assert out.out == "" and out.err == "epoch 5/30  train_loss 0.1235  val_dice 0.5  0 s\n"
    log_epoch(EpochLog(tmp_path / "metrics.csv", 30, lines=False), 5, train_loss=0.1)
    assert capsys.readouterr().err == ""


def test_metrics_survive_the_file(tmp_path: Path) -> None:
    rows = [{"epoch": 1.0, "train_loss": 0.12345678, "lr": 4e-9, "seconds": 1.23}]
    write_metrics(tmp_path / "metrics.csv", rows)
    assert read_metrics(tmp_path / "metrics.csv") == rows
    assert read_metrics(tmp_path / "none.csv") == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_guard_gives_up_after_three_in_a_row(bad: float) -> None:
    guard = NonFiniteGuard()

    def batch(value: float) -> None:
        guard.on_train_batch_end(trainer(epoch=2, step=17), None, {"loss": torch.tensor(value)}, None, 0)

    for value in (bad, bad, 1.0, bad, bad):
        batch(value)
    with pytest.raises(TrainingError, match=r"3 batches in a row, at step 17; last\.ckpt .* after epoch 2") as caught:
        batch(bad)
    assert str(bad) in caught.value.problem.found


def test_the_guard_says_when_nothing_was_kept() -> None:
    guard = NonFiniteGuard(limit=1)
    with pytest.raises(TrainingError, match="none is kept"):
        guard.on_train_batch_end(trainer(), None, torch.tensor(float("nan")), None, 0)


def test_a_guard_that_looks_seldom_misses_nothing() -> None:
    guard = NonFiniteGuard(limit=2, look_every=4)
    for number, value in enumerate([float("nan"), float("nan"), 1.0]):
        guard.on_train_batch_end(trainer(), None, torch.tensor(value), None, number)
    with pytest.raises(TrainingError, match="2 batches in a row"):
        guard.on_train_batch_end(trainer(), None, torch.tensor(1.0), None, 3)
    with pytest.raises(TrainingError, match="2 batches in a row"):  # and before a checkpoint is written
        guard.on_train_epoch_end(trainer(), None)


def epochs(end: EndOfRun, module: LungSegmenter, scores: list[float | None], first: int = 0) -> int:
    """Let epochs with these Dice values pass; how many until it stops."""
    for number, score in enumerate(scores, start=first):
        state = trainer(number, **({} if score is None else {"val_dice": score}))
        end.on_train_epoch_end(state, module)
        if state.should_stop:
            return number + 1
    return first + len(scores)


def test_patience_is_counted_from_the_best_epoch(module: LungSegmenter) -> None:
    end = EndOfRun(early_stop=2)
    assert epochs(end, module, [0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.9]) == 6  # equal is not better
    assert (end.reason, end.best_epoch, end.epoch) == ("early stop", 4, 6)
    assert end.best == pytest.approx(0.4)


def test_patience_goes_on_over_a_resumption(module: LungSegmenter) -> None:
    end, resumed = EndOfRun(early_stop=2), EndOfRun(early_stop=2)
    epochs(end, module, [0.4, 0.1])
    resumed.load_state_dict(end.state_dict())
    assert epochs(resumed, module, [0.2, 0.9], first=2) == 3
    assert resumed.best_epoch == 1


def test_without_a_dice_the_last_epoch_is_the_best(module: LungSegmenter) -> None:
    end = EndOfRun()
    assert epochs(end, module, [None, None, None]) == 3
    assert (end.best_epoch, end.best, end.reason) == (3, -1.0, "epochs")


def test_time_is_that_of_all_parts_of_a_run(module: LungSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    for elapsed_s, stops in ((59.0, False), (60.0, True)):
        monkeypatch.setattr(LungSegmenter, "elapsed_s", property(lambda _, s=elapsed_s: s))
        end, state = EndOfRun(max_minutes=1.0), trainer()
        end.on_train_batch_end(state, module, None, None, 0)
        assert (state.should_stop, end.reason) == (stops, "time" if stops else "epochs")


def test_a_resumed_run_that_was_over_stops_before_its_first_step(
    module: LungSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LungSegmenter, "elapsed_s", property(lambda _: 60.0))
    for step, stops in ((0, False), (1, True)):  # but a new one has a first step, however short its time
        state = trainer(step=step)
        EndOfRun(max_minutes=1.0).on_train_start(state, module)
        assert state.should_stop == stops


def test_sigterm_ends_with_143(module: LungSegmenter) -> None:
    state = trainer()
    state.received_sigterm = True
    with pytest.raises(SystemExit) as caught:
        EndOfRun().on_train_batch_end(state, module, None, None, 0)
    assert caught.value.code == 143

"""A whole run on tiny slices: what it leaves, who is trained on, how it ends, and how it goes on."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import shutil
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import lungseg.fitting
import lungseg.loaders
import lungseg.saving
import lungseg.train
from lungseg.callbacks import COLUMNS, EndOfRun
from lungseg.checkpoint import load_model
from lungseg.config import AugmentConfig, UNetConfig
from lungseg.dataset import LungDataset
from lungseg.errors import DataError, IntegrityError, LungsegError, MachineError, TrainingError, UsageError
from lungseg.folder_lock import folder_lock
from lungseg.lightning_module import LungSegmenter
from lungseg.manifest import Manifest
from lungseg.metrics import dice, soft_dice_pooled
from lungseg.phased import Phased
from lungseg.preprocess import preprocess
from lungseg.run_folder import RunResult, processed_folder
from lungseg.sample import write_sample
from lungseg.train import train

from .processed import write_processed
from .training import TINY, same_weights, weights_of, write_slices
from .volumes import tree_bytes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preprocessed folder that no test changes."""
    return write_slices(tmp_path_factory.mktemp("data") / "processed").root


@pytest.fixture(scope="module")
def done(slices: Path) -> RunResult:
    """A finished run beside ``slices`` that no test changes."""
    before = tree_bytes(slices)
    result = train(slices, slices.parent / "done", recipe=TINY)
    assert tree_bytes(slices) == before
    return result


@pytest.fixture
def copied(done: RunResult, slices: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that knows nothing of its end, as a kill just before it leaves it."""
    run = shutil.copytree(done.run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "finished": None}))
    return run


def rows_of(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def refused(kind: type[LungsegError], code: str, processed: Path, run: Path, **options) -> LungsegError:
    with pytest.raises(kind) as caught:
        train(processed, run, **{"recipe": TINY, **options})
    assert caught.value.problem.code == code
    assert "\n" not in str(caught.value)
    return caught.value


class Interrupting:
    """Does something, once, after so many training batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, action) -> None:
        original, batches = EndOfRun.on_train_batch_end, iter(range(1, 10_000))

        def hook(callback, *arguments) -> None:
            original(callback, *arguments)
            if next(batches) == after:
                action()

        monkeypatch.setattr(EndOfRun, "on_train_batch_end", hook)


# What a run leaves


def test_a_run_folder_holds_what_is_promised(done: RunResult) -> None:
    files = {path.relative_to(done.run).as_posix() for path in done.run.rglob("*") if path.is_file()}
    names = {f"checkpoints/{name}{suffix}" for name in ("best.ckpt", "last.ckpt") for suffix in ("", ".sha256")}
    assert files - {".lungseg.lock"} == {"config.json", "splits.json", "metrics.csv", "curves.png", *names}
    assert (done.best, done.last) == (done.run / "checkpoints/best.ckpt", done.run / "checkpoints/last.ckpt")
    assert done.reason == "epochs" and done.epochs == 3
    assert cv2.imread(str(done.curves)).std() > 5  # something is drawn


def test_log_has_a_row_an_epoch_with_all_columns(done: RunResult) -> None:
    rows = rows_of(done.run)
    assert tuple(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(np.isfinite([float(value) for value in row.values()]).all() for row in rows)
    assert float(rows[0]["lr"]) == pytest.approx(1e-2)
    best = max(rows, key=lambda row: float(row["val_dice"]))  # the first of equals, as ModelCheckpoint takes it
    assert done.best_epoch == int(best["epoch"])
    assert done.val_dice == pytest.approx(float(best["val_dice"]))


def test_it_learns(slices: Path, tmp_path: Path) -> None:
    unet = UNetConfig(widths=(4, 8), norm="batch")
    recipe = TINY.but(unet=unet, augment="none", epochs=10, batch_size=2)
    result = train(slices, tmp_path / "run", recipe=recipe)
    losses = [float(row["train_loss"]) for row in rows_of(result.run)]
    assert losses[-1] < 0.5 * losses[0]
    assert result.val_dice > 0.8  # tumour is bright on air: a network that learns at all finds it


@pytest.mark.parametrize("name", ["best", "last"])
def test_logged_dice_is_that_of_the_inner_patients_masks(done: RunResult, slices: Path, name: str) -> None:
    row = rows_of(done.run)[done.best_epoch - 1 if name == "best" else -1]
    inner = json.loads((done.run / "splits.json").read_text())["inner_val"]
    net, _ = load_model(getattr(done, name))
    scores, truths, probabilities = [], [], []
    for case in inner:
        images, masks = LungDataset(slices, [case]).batch(range(4))
        with torch.inference_mode():
            probability = net(images).sigmoid()
        scores.append(dice(masks, probability > 0.5))
        truths.append(masks)
        probabilities.append(probability)
    assert float(row["val_dice"]) == pytest.approx(np.mean(scores), abs=1e-6)
    pooled = soft_dice_pooled(torch.cat(truths), torch.cat(probabilities))
    assert float(row["val_soft_dice_pooled"]) == pytest.approx(pooled, abs=1e-5)


def test_config_leads_to_the_data_after_both_have_moved(done: RunResult, slices: Path, tmp_path: Path) -> None:
    config = json.loads((done.run / "config.json").read_text())
    assert config["processed"] == "../processed"
    moved = shutil.copytree(slices.parent, tmp_path / "elsewhere")
    assert processed_folder(moved / "done").resolve() == (moved / "processed").resolve()
    Manifest.read(processed_folder(moved / "done"))


def test_no_file_of_a_run_tells_where_it_was_made(done: RunResult) -> None:
    place = str(done.run.parent).encode()
    assert all(place not in content for content in tree_bytes(done.run).values())


def test_checkpoints_hold_plain_values_only(done: RunResult) -> None:
    for path in (done.best, done.last):
        content = torch.load(path, map_location="cpu", weights_only=True)
        config = content["hyper_parameters"]["config"]
        assert json.loads(json.dumps(config)) == config
        assert config["recipe"]["unet"]["widths"] == [4, 8]


def test_a_run_moved_to_another_place_goes_on(copied: Path, slices: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied / "checkpoints")
    (tmp_path / "deeper").mkdir()
    moved = copied.rename(tmp_path / "deeper" / "run")
    train(slices, moved, resume=True)
    config = json.loads((moved / "config.json").read_text())
    assert (moved / config["processed"]).resolve() == slices.resolve()
    assert config["finished"]["epochs"] == 3


# Who is trained on


def test_held_out_and_inner_patients_are_never_trained_on(done: RunResult, slices: Path) -> None:
    split = json.loads((done.run / "splits.json").read_text())
    groups = [set(split[key]) for key in ("train", "inner_val", "held_out")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 6
    assert all(groups)


def test_held_out_patients_are_not_even_read(slices: Path, done: RunResult, tmp_path: Path) -> None:
    folder = shutil.copytree(slices, tmp_path / "processed")
    for case in json.loads((done.run / "splits.json").read_text())["held_out"]:
        shutil.rmtree(folder / case)
    again = train(folder, tmp_path / "run", recipe=TINY)
    assert same_weights(again.last, done.last)


def test_row_34_a_scan_that_is_held_out_and_trained_on_under_two_names_is_refused(tmp_path: Path) -> None:
    write_sample(tmp_path / "tree", cases=3, test_cases=0, shape=(32, 32, 16), seed=0)
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for name, source in (("a", "001"), ("b", "002"), ("c", "003"), ("twin", "001")):
        shutil.copy(tmp_path / f"tree/imagesTr/lung_{source}.nii.gz", pairs / f"{name}.nii.gz")
        shutil.copy(tmp_path / f"tree/labelsTr/lung_{source}.nii.gz", pairs / f"{name}_label.nii.gz")
    preprocess(pairs, tmp_path / "slices", size=32, skip_slices=0, workers=1)
    error = refused(DataError, "leak", tmp_path / "slices", tmp_path / "run", fold=3)
    assert "twin" in str(error) and "same scan as a" in str(error) and error.exit_code == 3
    assert not (tmp_path / "run/config.json").exists()


def test_folds_are_taken_from_a_file(slices: Path, tmp_path: Path) -> None:
    names = [f"lung_{number:03d}" for number in range(1, 7)]
    folds = [{"train": names[2:], "val": names[:2]}, {"train": names[:3], "val": names[4:5]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    run = tmp_path / "run"
    train(slices, run, recipe=TINY.but(epochs=1), splits=tmp_path / "splits_final.json", fold=1)
    split = json.loads((run / "splits.json").read_text())
    assert split["held_out"] == ["lung_005"]
    assert sorted(split["train"] + split["inner_val"]) == names[:3]
    assert split["inner_val"] and split["train"]
    assert split["folds"] == folds
    # A finished run returns without the file and without its fold being named again.
    (tmp_path / "splits_final.json").unlink()
    assert train(slices, run, resume=True).epochs == 1


@pytest.mark.parametrize("cases", [2, 3, 4])
def test_few_patients_are_a_fold_each(tmp_path: Path, cases: int) -> None:
    folder = write_slices(tmp_path / "processed", cases).root
    result = train(folder, tmp_path / "run", recipe=TINY.but(epochs=2), fold=cases - 1)
    split = json.loads((result.run / "splits.json").read_text())
    assert split["held_out"] == [f"lung_{cases:03d}"] and len(split["folds"]) == cases
    assert bool(split["inner_val"]) == (cases > 2)
    refused(UsageError, "no-such-fold", folder, tmp_path / "other", fold=cases)


def test_without_inner_patients_the_last_weights_are_kept(slices: Path, tmp_path: Path) -> None:
    result = train(slices, tmp_path / "run", recipe=TINY.but(epochs=2, early_stop=1), inner_val=0.0)
    rows = rows_of(result.run)
    assert len(rows) == 2  # nothing to stop early by
    assert rows[0]["train_loss"] and rows[0]["val_loss"] == rows[0]["val_dice"] == ""
    assert same_weights(result.best, result.last)
    assert (result.val_dice, result.best_epoch) == (None, 2)
    assert "no inner validation" in str(result)


def test_one_patient_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = write_processed(tmp_path / "processed", {"lung_001": [0, 9], "lung_002": [0]}, unlabelled=("lung_002",))
    error = refused(UsageError, "too-few-cases", folder.root, tmp_path / "run")
    assert error.exit_code == 2
    assert "Preprocess more labelled scans" in str(error) and "lung_001" in str(error)


def test_a_patient_in_both_lists_of_a_fold_is_refused(slices: Path, tmp_path: Path) -> None:
    file = tmp_path / "splits.json"
    file.write_text(json.dumps([{"train": ["lung_001", "lung_002"], "val": ["lung_002"]}]))
    error = refused(UsageError, "patient-in-both", slices, tmp_path / "run", splits=file)
    assert "lung_002" in str(error) and str(file) in str(error)


# How it ends


def test_early_stop_ends_a_run_that_gets_no_better(slices: Path, tmp_path: Path) -> None:
    # So small a rate that the Dice can not change: the first epoch stays the best.
    result = train(slices, tmp_path / "run", recipe=TINY.but(epochs=9, early_stop=2, learning_rate=1e-12))
    assert (result.epochs, result.best_epoch, result.reason) == (3, 1, "early stop")
    assert "early stop" in str(result)


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_a_time_limit_ends_with_a_validated_checkpoint(slices: Path, tmp_path: Path, schedule: str) -> None:
    recipe = TINY.but(epochs=1000, schedule=schedule)
    started = time.monotonic()
    result = train(slices, tmp_path / "run", recipe=recipe, max_minutes=0.3 / 60)
    assert time.monotonic() - started < 8
    assert result.reason == "time" and result.epochs < 1000
    rows = rows_of(result.run)
    assert len(rows) == result.epochs and rows[-1]["val_dice"] != ""
    load_model(result.last)
    assert result.minutes >= 0.0


def test_a_time_limit_within_an_epoch_ends_there(slices: Path, tmp_path: Path) -> None:
    result = train(slices, tmp_path / "run", recipe=TINY, max_minutes=1e-7)
    content = torch.load(result.last, weights_only=True)
    assert (content["global_step"], result.epochs, len(rows_of(result.run))) == (1, 1, 1)
    assert train(slices, result.run, recipe=TINY, max_minutes=1e-7, resume=True) == result


def test_batches_of_an_epoch_can_be_limited(slices: Path, tmp_path: Path) -> None:
    result = train(slices, tmp_path / "run", recipe=TINY, limit_batches=1)
    assert torch.load(result.last, weights_only=True)["global_step"] == 3
    assert result.epochs == 3


@pytest.mark.parametrize(
    ("name", "value"), [("whole_slices", 1.0), ("tumour_share", -0.1), ("average", 1.0), ("test_zooms", (9.0,))]
)
def test_shares_that_can_not_be_meant(slices: Path, tmp_path: Path, name: str, value: float) -> None:
    error = refused(UsageError, "bad-setting", slices, tmp_path / "run", recipe=TINY.but(**{name: value}))
    assert name in str(error)


@pytest.mark.parametrize(("share_of_time", "kept"), [(math.inf, 2), (1e-9, 1)])
def test_row_38_a_loss_of_nan_ends_training_and_keeps_the_last_good_checkpoint(
    slices: Path, done: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share_of_time: float, kept: int
) -> None:
    monkeypatch.setattr(lungseg.saving, "SHARE_OF_TIME", share_of_time)
    # Two epochs as in the finished run, then NaN from the third on.
    forward, calls = lungseg.fitting.LungSegmenter.model_step, iter(range(10_000))
    steps = 2 * 3

    def broken(module, batch):
        loss, logits = forward(module, batch)
        if module.training and next(calls) >= steps:
            loss = loss * float("nan")
        return loss, logits

    monkeypatch.setattr(lungseg.fitting.LungSegmenter, "model_step", broken)
    run = tmp_path / "run"
    error = refused(TrainingError, "non-finite-loss", slices, run)
    assert error.exit_code == 1
    assert f"last.ckpt holds the weights after epoch {kept}" in str(error) and "learning-rate" in str(error)
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 3 * kept
    assert all(value.isfinite().all() for value in weights_of(run / "checkpoints/last.ckpt").values())
    assert len(rows_of(run)) == 2
    # Mended, it goes on from there to the weights of a run that never broke.
    monkeypatch.undo()
    assert same_weights(train(slices, run, resume=True).last, done.last)


def test_row_38_a_rate_that_blows_up_is_said(slices: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not saved|no finite number"):
        train(slices, tmp_path / "run", recipe=TINY.but(epochs=20, learning_rate=1e30, loss="bce"))


# How it goes on


def test_a_finished_run_returns_at_once(done: RunResult, slices: Path) -> None:
    before = tree_bytes(done.run)
    assert train(slices, done.run, recipe=TINY, resume=True) == done
    assert train(slices, done.run, resume=True) == done
    assert tree_bytes(done.run) == before


def test_a_run_killed_after_its_last_checkpoint_is_only_finished(copied: Path, slices: Path, done: RunResult) -> None:
    (copied / "curves.png").unlink()
    result = train(slices, copied, resume=True)
    assert (result.epochs, result.best_epoch, result.val_dice) == (done.epochs, done.best_epoch, done.val_dice)
    assert rows_of(copied) == rows_of(done.run)
    assert same_weights(result.last, done.last)
    assert result.curves.exists() and json.loads((copied / "config.json").read_text())["finished"]["epochs"] == 3


def test_all_that_strong_adds_goes_on_to_the_same_weights(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TINY.but(
        unet=UNetConfig(widths=(4, 8), norm="batch", deep=1), average=0.9, draw_by="patient", schedule="one_cycle",
        augmentation=AugmentConfig(window=16), whole_slices=0.4,
    )  # fmt: skip
    whole = train(slices, tmp_path / "whole", recipe=recipe)
    assert any(key.startswith("averaged.net.") for key in weights_of(whole.last))
    assert not torch.equal(load_model(whole.last)[0].head.bias, weights_of(whole.last)["net.head.bias"])
    run = tmp_path / "run"
    Interrupting(monkeypatch, 7, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(slices, run, recipe=recipe)
    assert same_weights(train(slices, run, resume=True).last, whole.last)


@pytest.mark.parametrize("augment", ["torch", "imgaug", "none"])
def test_the_end_of_a_run_sees_whole_slices(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str
) -> None:
    seen: list[int] = []
    step = LungSegmenter.training_step

    def look(self: LungSegmenter, batch: Any, index: int) -> Any:
        seen.append(batch[0].shape[-1])
        return step(self, batch, index)

    monkeypatch.setattr(LungSegmenter, "training_step", look)
    recipe = TINY.but(augment=augment, augmentation=AugmentConfig(window=16), epochs=4)
    train(slices, tmp_path / "run", recipe=recipe.but(whole_slices=0.5))
    assert seen == [16] * (len(seen) // 2) + [32] * (len(seen) // 2) and len(seen) % 4 == 0
    seen.clear()
    train(slices, tmp_path / "short", recipe=recipe.but(whole_slices=0.1, epochs=2))  # its last epoch in any case
    assert seen == [16] * (len(seen) // 2) + [32] * (len(seen) // 2)


def test_the_end_of_a_run_with_a_time_limit_is_told_by_the_clock(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[bool] = []
    monkeypatch.setattr(LungSegmenter, "elapsed_s", property(lambda self: 6.0 * self.epoch))  # 10 epochs a minute
    at = Phased.at
    monkeypatch.setattr(Phased, "at", lambda self, progress: [at(self, progress), ends.append(self.ending)])
    recipe = TINY.but(augmentation=AugmentConfig(window=16), whole_slices=0.3, epochs=100)
    assert train(slices, tmp_path / "run", recipe=recipe, max_minutes=1.0).reason == "time"
    assert ends == [False] * 7 + [True] * 3


def test_room_is_asked_for_the_averaged_weights_too(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(lungseg.fitting, "require_free_space", lambda folder, need, **_: asked.append(need))
    whole = train(slices, tmp_path / "plain", recipe=TINY.but(epochs=1))
    averaged = train(slices, tmp_path / "averaged", recipe=TINY.but(epochs=1, average=0.9))
    moved = [value.numel() for key, value in weights_of(whole.last).items() if key.startswith("net.")]
    assert asked == [4 * sum(moved) * 3 * copies for copies in (3, 4)]  # a weight, its two moments, and its average
    kept = sum(value.numel() for key, value in weights_of(averaged.last).items() if not key.endswith(".step"))
    assert kept == sum(moved) * 4


def test_resuming_where_nothing_is_starts(slices: Path, tmp_path: Path, done: RunResult) -> None:
    assert same_weights(train(slices, tmp_path / "run", recipe=TINY, resume=True).last, done.last)


def test_a_taken_folder_is_refused_without_resume(done: RunResult, copied: Path, slices: Path) -> None:
    before = tree_bytes(done.run)
    assert "finished" in str(refused(UsageError, "run-exists", slices, done.run))
    assert tree_bytes(done.run) == before
    assert "--resume" in str(refused(UsageError, "run-exists", slices, copied))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"recipe": TINY.but(learning_rate=1e-3)}, ["recipe.learning_rate"]),
        ({"recipe": TINY.but(unet=UNetConfig(widths=(4, 16)))}, ["recipe.unet.widths"]),
        ({"loss": "bce", "epochs": 9}, ["recipe.loss", "recipe.epochs"]),
        ({"recipe": "classic"}, ["recipe.name", "recipe.unet.widths"]),
        ({"fold": 1}, ["fold", "held_out patients"]),
        ({"inner_val": 0.5}, ["recipe.inner_val", "inner_val patients"]),
        ({"max_minutes": 3.0}, ["max_minutes"]),
        ({"limit_batches": 3}, ["limit_batches"]),
    ],
)
def test_other_settings_on_resume_are_refused_by_name(done: RunResult, slices: Path, changes, names) -> None:
    options = {"recipe": None, "resume": True, **changes}
    message = str(refused(UsageError, "other-settings", slices, done.run, **options))
    assert all(name in message for name in names)


def test_other_data_on_resume_are_refused(copied: Path, tmp_path: Path) -> None:
    folder = write_processed(
        tmp_path / "other", {f"lung_{number:03d}": [0, 90 + 30 * number, 200, 1] for number in range(1, 7)}
    )
    message = str(refused(UsageError, "other-settings", folder.root, copied, recipe=None, resume=True))
    assert "data.digest" in message


def test_a_new_patient_in_the_folder_does_not_hinder_resuming(copied: Path, slices: Path, tmp_path: Path) -> None:
    folder = write_slices(tmp_path / "more", 7).root
    before = json.loads((copied / "splits.json").read_text())
    assert train(folder, copied, resume=True).epochs == 3
    assert json.loads((copied / "splits.json").read_text()) == before


def test_row_39_a_damaged_last_checkpoint_is_refused_and_best_goes_on(
    copied: Path, slices: Path, done: RunResult
) -> None:
    data = bytearray((copied / "checkpoints/last.ckpt").read_bytes())
    data[len(data) // 2] ^= 1
    (copied / "checkpoints/last.ckpt").write_bytes(data)
    error = refused(IntegrityError, "hash-mismatch", slices, copied, recipe=None, resume=True)
    assert error.exit_code == 4 and "delete last.ckpt" in str(error)
    (copied / "checkpoints/last.ckpt").unlink()
    assert same_weights(train(slices, copied, resume=True).last, done.last)


def test_row_41_a_checkpoint_of_another_network_is_refused_by_key(copied: Path, slices: Path, tmp_path: Path) -> None:
    other = train(slices, tmp_path / "other", recipe=TINY.but(unet=UNetConfig(widths=(4, 6)), epochs=1))
    for suffix in ("", ".sha256"):
        shutil.copy(f"{other.last}{suffix}", copied / "checkpoints" / f"last.ckpt{suffix}")
    error = refused(IntegrityError, "other-network", slices, copied, recipe=None, resume=True)
    assert error.exit_code == 4 and "encoder.1" in str(error)


def test_ctrl_c_is_for_the_caller_and_the_run_goes_on(
    slices: Path, done: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    Interrupting(monkeypatch, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(slices, run, recipe=TINY)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert same_weights(train(slices, run, resume=True).last, done.last)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("after", [2, 3])
def test_on_a_gpu_a_stopped_run_ends_in_the_same_bytes(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    options = {"recipe": TINY.but(precision="auto"), "device": "cuda", "deterministic": True}
    whole = train(slices, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        Interrupting(patch, after, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(slices, tmp_path / "run", **options)
    resumed = train(slices, tmp_path / "run", resume=True, **options)
    assert (resumed.epochs, same_weights(resumed.last, whole.last)) == (whole.epochs, True)


@pytest.mark.parametrize("after", [2, 3])  # within an epoch, and after the last batch of one
def test_sigterm_ends_with_its_status_and_the_run_goes_on(
    slices: Path, done: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the command's own may stand there from another test
    Interrupting(monkeypatch, after, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = tmp_path / "run"
    try:
        with pytest.raises(SystemExit) as caught:
            train(slices, run, recipe=TINY)
        assert caught.value.code == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert same_weights(train(slices, run, resume=True).last, done.last)


# What it leaves alone


def test_the_process_is_left_as_it_was(slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:

        def state() -> list:
            return [
                torch.get_rng_state().tolist(),
                np.random.get_state()[1].tolist(),  # noqa: NPY002 (whether it was touched)
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
                torch.backends.cudnn.benchmark,
                torch.is_grad_enabled(),
                torch.get_num_threads(),
                torch.get_default_dtype(),
                [signal.getsignal(number) for number in signals],
                [(logger.level, logger.handlers[:]) for logger in loggers],
                warnings.filters[:],
                dict(os.environ),
                Path.cwd(),
            ]

        before = state()
        train(slices, tmp_path / "run", recipe=TINY.but(epochs=1), deterministic=True)
        assert state() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_process_state_does_not_decide_the_weights(slices: Path, done: RunResult, tmp_path: Path) -> None:
    torch.manual_seed(99)
    assert same_weights(train(slices, tmp_path / "run", recipe=TINY).last, done.last)
    other = train(slices, tmp_path / "other", recipe=TINY.but(seed=1))
    assert not same_weights(other.last, done.last)


def test_it_runs_outside_of_the_main_thread(slices: Path, done: RunResult, tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(train(slices, tmp_path / "run", recipe=TINY)))
    thread.start()
    thread.join(30)
    assert same_weights(results[0].last, done.last)


def test_a_cluster_does_not_take_the_run_over(slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NAME": "train",
        "SLURM_JOB_ID": "7",
        "SLURM_PROCID": "1",
    }.items():
        monkeypatch.setenv(name, value)
    handlers = []
    Interrupting(monkeypatch, 1, lambda: handlers.append(signal.getsignal(signal.SIGUSR1)))
    assert train(slices, tmp_path / "run", recipe=TINY.but(epochs=1)).best.exists()
    assert handlers == [signal.getsignal(signal.SIGUSR1)]


def test_an_engine_of_ones_own_is_used_and_asked_for_on_resume(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def pipeline(image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(image.shape)
        return {"image": image, "mask": mask}

    run = tmp_path / "run"
    Interrupting(monkeypatch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(slices, run, recipe=TINY, augment=pipeline, workers=0)
    assert set(seen) == {(32, 32)} and len(seen) >= 16
    refused(UsageError, "custom-augment", slices, run, recipe=None, resume=True)
    resumed = train(slices, run, augment=pipeline, workers=0, resume=True)
    plain = train(slices, tmp_path / "plain", recipe=TINY.but(augment="none"))
    assert same_weights(resumed.last, plain.last)


# What is refused


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0}, {"epochs": 1.5}, {"batch_size": 0}, {"seed": -1}, {"learning_rate": 0.0},
        {"learning_rate": float("nan")}, {"learning_rate": float("inf")}, {"loss": "mse"}, {"precision": "16"},
        {"augment": "blur"}, {"early_stop": -1}, {"max_minutes": -1.0}, {"max_minutes": float("nan")},
        {"limit_batches": -1}, {"workers": -1}, {"seed": 2**63}, {"batch_size": 10**30}, {"workers": 10**6},
    ],
)  # fmt: skip
def test_settings_that_can_not_be_meant(slices: Path, tmp_path: Path, changes: dict) -> None:
    error = refused(UsageError, "bad-setting", slices, tmp_path / "run", **changes)
    assert next(iter(changes)) in str(error)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"recipe": "best"}, "unknown-recipe"), ({"device": "tpu"}, "unknown-device"), ({"fold": 5}, "no-such-fold"),
        ({"fold": -1}, "no-such-fold"), ({"inner_val": 1.0}, "inner-val"), ({"logger": "wandb"}, "unknown-logger"),
    ],
)  # fmt: skip
def test_names_that_are_not_there_leave_no_run(slices: Path, tmp_path: Path, changes: dict, code: str) -> None:
    refused(UsageError, code, slices, tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("place", ["", "run", "lung_001/run"])
def test_a_run_inside_the_preprocessed_folder_is_refused(slices: Path, place: str) -> None:
    before = tree_bytes(slices)
    refused(UsageError, "run-in-data", slices, slices / place)
    assert tree_bytes(slices) == before


def test_two_writers_of_one_run_are_refused(slices: Path, tmp_path: Path) -> None:
    with folder_lock(tmp_path / "run", stage="test"):
        assert refused(MachineError, "locked", slices, tmp_path / "run").exit_code == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_slice_is_named_whatever_loads_it(slices: Path, tmp_path: Path, workers: int) -> None:
    folder = shutil.copytree(slices, tmp_path / "processed")
    for path in folder.glob("*/images/001.npy"):
        path.write_bytes(path.read_bytes()[:-100])
    options = {"workers": workers, "in_memory": False}
    error = refused(IntegrityError, "hash-mismatch", folder, tmp_path / "run", **options)
    assert error.problem.case in error.problem.file and error.problem.file.endswith("images/001.npy")


def test_a_failing_engine_is_named_from_a_worker(slices: Path, tmp_path: Path) -> None:
    def broken(image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        raise ValueError("no such filter")

    error = refused(UsageError, "augment-failed", slices, tmp_path / "run", augment=broken, workers=1)
    assert "no such filter" in str(error)


def test_row_35_a_killed_worker_is_said(slices: Path, tmp_path: Path) -> None:
    def fatal(image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")

    started = time.monotonic()
    error = refused(MachineError, "loader-died", slices, tmp_path / "run", augment=fatal, workers=1)
    assert time.monotonic() - started < 60  # also where an earlier run of this process had workers
    assert error.exit_code == 5 and "--resume" in str(error)


def test_row_35_a_hanging_worker_ends_in_a_set_time(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hanging(image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(2)
        return {"image": image, "mask": mask}

    monkeypatch.setattr(lungseg.loaders, "HANG_S", 1)
    refused(MachineError, "loader-died", slices, tmp_path / "run", augment=hanging, workers=1, batch_size=1)


def test_row_37_a_full_disk_is_said_before_training(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert refused(MachineError, "disk-space", slices, tmp_path / "run").exit_code == 5


def test_tensorboard_missing_is_said_with_the_mend(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*arguments, **options):
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr(lungseg.fitting, "TensorBoardLogger", missing)
    error = refused(UsageError, "no-tensorboard", slices, tmp_path / "run", logger="tensorboard")
    assert "pip install tensorboard" in str(error)
    assert not (tmp_path / "run" / "config.json").exists()

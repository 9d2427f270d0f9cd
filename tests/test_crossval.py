"""A cross-validated run: folds, going on where it was stopped, refusals, and no patient scored by who saw it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lungseg.fitting
from lungseg.config import Recipe
from lungseg.crossval import crossval, devices_named, folds_named
from lungseg.crossval_score import CrossValidation
from lungseg.errors import DataError, LungsegError, MachineError, TrainingError, UsageError
from lungseg.evaluate import evaluate
from lungseg.folder_lock import folder_lock
from lungseg.manifest import Manifest
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.train import train

from .training import TINY, same_weights
from .volumes import chest_like, tree_bytes, write_tree, write_volume

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL: Recipe = TINY.but(epochs=2, inner_val=0.0, augment="none")


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six preprocessed patients that no test changes."""
    folder = tmp_path_factory.mktemp("crossval")
    done = preprocess(write_tree(folder / "tree", cases=6), folder / "slices", size=32, skip_slices=2, workers=1)
    assert done.exit_code == 0
    return folder / "slices"


def started(slices: Path, run: Path, **options) -> CrossValidation:
    return crossval(slices, run, **{"recipe": SMALL, "n_folds": 3, "device": "cpu", **options})


@pytest.fixture(scope="module")
def done(slices: Path) -> CrossValidation:
    """A finished cross-validation beside ``slices`` that no test changes."""
    before = tree_bytes(slices)
    evaluation = started(slices, slices.parent / "done")
    assert tree_bytes(slices) == before
    return evaluation


@pytest.fixture
def run(done: CrossValidation, slices: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, and of the slices beside it, for a test to change."""
    shutil.copytree(slices, tmp_path / "slices")
    return shutil.copytree(slices.parent / "done", tmp_path / "run")


def rows_of(run: Path) -> list[dict[str, str]]:
    with open(run / "evaluation" / "cases.csv", newline="") as file:
        return list(csv.DictReader(file))


def refused(kind: type[LungsegError], code: str, slices: Path, run: Path, **options) -> LungsegError:
    with pytest.raises(kind) as caught:
        started(slices, run, **options)
    assert caught.value.problem.code == code and "\n" not in str(caught.value)
    return caught.value


# What it leaves


def test_every_patient_is_scored_once_by_the_fold_that_held_it_out(done: CrossValidation, slices: Path) -> None:
    run = slices.parent / "done"
    folds = json.loads((run / "splits.json").read_text())["folds"]
    rows = rows_of(run)
    assert [row["case"] for row in rows] == [f"lung_{number:03d}" for number in range(1, 7)]
    for row in rows:
        (fold,) = [number for number, fold in enumerate(folds) if row["case"] in fold["val"]]
        assert row["fold"] == str(fold)
        trained = json.loads((run / "folds" / str(fold) / "splits.json").read_text())
        assert row["case"] not in trained["train"] + trained["inner_val"]
    assert done.summary["folds_scored"] == [0, 1, 2] and done.summary["folds_missing"] == [] and done.exit_code == 0


def test_the_plain_scores_are_those_of_each_fold_by_itself(done: CrossValidation, run: Path) -> None:
    alone = [score for fold in range(3) for score in evaluate(run / "folds" / str(fold), device="cpu").cases]
    assert sorted(alone, key=lambda score: score.case) == list(done.cases)


def test_a_fold_is_a_run_as_train_makes_it(slices: Path, tmp_path: Path) -> None:
    alone = train(slices, tmp_path / "alone", recipe=SMALL, fold=1, n_folds=3, device="cpu")
    assert same_weights(alone.best, slices.parent / "done" / "folds" / "1" / "checkpoints" / "best.ckpt")


def test_plain_and_tuned_figures_have_intervals(done: CrossValidation) -> None:
    plain, tuned = done.summary, done.summary["tuned"]
    assert plain["patients"] == tuned["patients"] == 6
    assert plain["dice_mean"] == pytest.approx(np.mean([score.dice for score in done.cases]), abs=1e-6)
    assert tuned["dice_mean"] == pytest.approx(np.mean([score.dice for score in done.tuned]), abs=1e-6)
    for figures in (plain, tuned):
        low, high = figures["dice_interval"]
        assert low <= figures["dice_mean"] <= high
    assert "chosen on the other folds" in str(done) and "predict uses 3 folds" in str(done)


def test_the_report_shows_every_patient_with_its_fold_and_the_tuned_figure(run: Path) -> None:
    page = (run / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert all(f"lung_{number:03d}" in page for number in range(1, 7))
    assert "chosen on the other folds" in page
    evaluate(run, device="cpu", report=False)
    assert not (run / "evaluation" / "report.html").exists()


def test_evaluate_gives_the_same_again(done: CrossValidation, run: Path) -> None:
    before = (run / "evaluation" / "cases.csv").read_bytes()
    shutil.rmtree(run / "evaluation")
    for maps in run.glob("folds/*/out_of_fold"):
        shutil.rmtree(maps)
    again = evaluate(run, device="cpu")
    assert (run / "evaluation" / "cases.csv").read_bytes() == before
    assert again.cases == done.cases and again.summary == done.summary


def test_a_damaged_map_is_made_again(done: CrossValidation, run: Path) -> None:
    path = run / "folds" / "0" / "out_of_fold" / "lung_001.npz"
    path = path if path.exists() else next(run.glob("folds/*/out_of_fold/*.npz"))
    data = path.read_bytes()
    path.write_bytes(data[:-3])
    assert evaluate(run, device="cpu").cases == done.cases
    assert path.read_bytes() == data


# How it goes on

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import torch
torch.set_num_threads(1)
from lungseg.callbacks import EndOfRun
from tests.test_crossval import SMALL, started
original, batches = EndOfRun.on_train_batch_end, iter(range(1, 10_000))
def hook(callback, *arguments):
    original(callback, *arguments)
    if next(batches) == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
EndOfRun.on_train_batch_end = hook
from pathlib import Path
started(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_killed_in_the_second_fold_it_goes_on_to_the_same_result(
    done: CrossValidation, slices: Path, tmp_path: Path
) -> None:
    more = 9  # batches into the second fold: an epoch is saved, the next one is half done
    whole = slices.parent / "done"
    folds = [json.loads((whole / "folds" / str(fold) / "config.json").read_text()) for fold in (0, 1)]
    batches = [-(-config["data"]["slices"] // SMALL.batch_size) * SMALL.epochs for config in folds]
    assert batches[1] / SMALL.epochs < more < batches[1]
    run, root = tmp_path / "run", Path(__file__).parents[1]
    command = [sys.executable, "-c", KILLED, str(slices), str(run), str(root), str(batches[0] + more)]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == -signal.SIGKILL
    assert (run / "folds" / "1").exists() and not (run / "folds" / "2").exists()
    with pytest.raises(UsageError, match="has not ended"):
        predict(run, write_volume(tmp_path / "scan.nii", chest_like((24, 24, 10))), tmp_path / "mask.nii")
    again = started(slices, run)
    assert again.cases == done.cases and again.tuned == done.tuned
    assert again.summary["tuned"] == done.summary["tuned"]
    for fold in "012":
        assert same_weights(*(place / "folds" / fold / "checkpoints" / "best.ckpt" for place in (run, whole)))
    assert (run / "evaluation" / "cases.csv").read_bytes() == (whole / "evaluation" / "cases.csv").read_bytes()


def test_a_finished_run_is_left_as_it_is(done: CrossValidation, run: Path) -> None:
    assert started(run.parent / "slices", run).cases == done.cases
    before = tree_bytes(run)  # with the folder's name in the report
    assert crossval(run.parent / "slices", run, device="cpu").cases == done.cases  # settings as recorded
    assert tree_bytes(run) == before


def test_some_folds_first_and_the_rest_later(done: CrossValidation, slices: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    some = started(slices, run, folds="0,1")
    assert some.summary["folds_missing"] == [2] and "not trained yet" in str(some) and some.summary["patients"] == 4
    assert {row["fold"] for row in rows_of(run)} == {"0", "1"}
    record = json.loads((run / "crossval.json").read_text())["chosen"]
    assert record["folds"] == [0, 1]
    rest = started(slices, run, folds=[2])
    assert rest.cases == done.cases and rest.summary["folds_missing"] == []
    assert rest.summary["tuned"] == done.summary["tuned"]
    assert json.loads((run / "crossval.json").read_text())["chosen"]["folds"] == [0, 1, 2]


def test_one_fold_alone_has_nobody_to_choose_on(slices: Path, tmp_path: Path) -> None:
    one = started(slices, tmp_path / "run", folds=[1])
    assert one.tuned == () and one.summary["tuned"]["dice_mean"] is None
    assert one.summary["predict_uses"] == {
        "threshold": 0.5,
        "smallest_ml": 0.0,
        "smallest_share": 0.0,
        "temperature": 1.0,
    }


def test_folds_on_two_devices_at_a_time_give_the_same(done: CrossValidation, slices: Path, tmp_path: Path) -> None:
    both = started(slices, tmp_path / "run", device="cpu,cpu")
    assert [score.case for score in both.cases] == [score.case for score in done.cases]
    assert [score.dice for score in both.cases] == pytest.approx([score.dice for score in done.cases], abs=0.02)
    assert devices_named("cpu,cpu") == ["cpu", "cpu#1"]


def test_the_time_limit_is_of_each_fold(slices: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    started(slices, run, recipe=SMALL.but(epochs=500), max_minutes=0.01, folds=[0, 1])
    ends = [json.loads((run / "folds" / fold / "config.json").read_text())["finished"]["reason"] for fold in "01"]
    assert ends == ["time", "time"]


def test_a_fold_that_diverges_is_named_and_the_others_go_on(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = lungseg.fitting.LungSegmenter.model_step

    def broken(module, batch):
        loss, logits = step(module, batch)
        fold = module.hparams["config"]["fold"]
        return (loss * float("nan") if fold == 1 and module.training else loss), logits

    monkeypatch.setattr(lungseg.fitting.LungSegmenter, "model_step", broken)
    run = tmp_path / "run"
    evaluation = started(slices, run)
    assert evaluation.exit_code == 1 and evaluation.summary["folds_missing"] == [1]
    assert "fold 1: the loss is no finite number" in str(evaluation)
    with pytest.raises(TrainingError, match="fold 1"):
        started(slices, tmp_path / "other", folds=[1])
    monkeypatch.undo()
    assert started(slices, run).exit_code == 0


def test_of_slice_sets_neither_volumes_nor_lesions_are_spoken_of(run: Path) -> None:
    manifest = Manifest.read(run.parent / "slices")
    replace(manifest, slice_sets=True).write()
    evaluation = evaluate(run, device="cpu")
    assert evaluation.summary["slice_sets"] and "gaps" in str(evaluation)
    assert not {"hd95_mm", "truth_ml", "tuned_predicted_ml"} & set(rows_of(run)[0])
    settings = [evaluation.summary["predict_uses"], *evaluation.summary["tuned"]["settings_by_fold"].values()]
    assert {setting["smallest_ml"] for setting in settings} == {0.0}
    manifest.write()
    assert not evaluate(run, device="cpu").summary["slice_sets"] and "hd95_mm" in rows_of(run)[0]


# Leaks


def test_weights_of_another_fold_score_nobody(run: Path) -> None:
    """The leak that a mix-up of folders makes: each fold's weights were trained on the other's patients."""
    folds = run / "folds"
    for first, second in (("0", "away"), ("1", "0"), ("away", "1")):
        (folds / first).rename(folds / second)
    with pytest.raises(DataError, match="may have been trained on the patients") as caught:
        evaluate(run, device="cpu")
    assert caught.value.exit_code == 3 and "folds/0" in caught.value.problem.file


def test_a_checkpoint_copied_from_another_fold_is_found(run: Path) -> None:
    for suffix in ("", ".sha256"):
        shutil.copy(
            run / f"folds/0/checkpoints/best.ckpt{suffix}",
            run / f"folds/1/checkpoints/best.ckpt{suffix}",
        )
    with pytest.raises(DataError, match="weights of fold 0"):
        evaluate(run, device="cpu")


def test_a_patient_under_two_names_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", cases=5)
    for folder in ("imagesTr", "labelsTr"):
        shutil.copy(root / folder / "lung_002.nii.gz", root / folder / "lung_009.nii.gz")
    (root / "dataset.json").unlink()
    preprocess(root, tmp_path / "slices", size=32, skip_slices=2, workers=1)
    error = refused(DataError, "leak", tmp_path / "slices", tmp_path / "run", n_folds=5)
    assert "lung_002" in str(error) and "lung_009" in str(error)
    assert not list((tmp_path / "run").glob("folds/*/checkpoints"))


# What is refused


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"epochs": 9}, ["recipe.epochs"]),
        ({"recipe": "demo"}, ["recipe.name", "recipe.unet.patch"]),
        ({"n_folds": 2}, ["n_folds", "val patients of fold 0"]),
        ({"max_minutes": 3.0}, ["max_minutes"]),
        ({"seed": 4}, ["recipe.seed"]),
    ],
)
def test_other_settings_are_refused_by_name(done: CrossValidation, slices: Path, changes: dict, names: list) -> None:
    before = tree_bytes(slices.parent / "done")
    message = str(refused(UsageError, "other-settings", slices, slices.parent / "done", **changes))
    assert all(name in message for name in names)
    assert tree_bytes(slices.parent / "done") == before


@pytest.mark.parametrize("folds", ["3", "0,x", "", "-1", [0, 7], []])
def test_folds_that_are_not_there(slices: Path, tmp_path: Path, folds) -> None:
    refused(UsageError, "no-such-fold", slices, tmp_path / "run", folds=folds)
    assert not (tmp_path / "run" / "crossval.json").exists()


def test_names_of_folds() -> None:
    assert folds_named("all", 3) == [0, 1, 2]
    assert folds_named("2,0", 3) == folds_named([2, 0, 0], 3) == [0, 2]


def test_a_patient_that_two_folds_hold_out_is_refused(slices: Path, tmp_path: Path) -> None:
    names = [f"lung_{number:03d}" for number in range(1, 7)]
    folds = [{"train": names[2:], "val": names[:2]}, {"train": names[3:] + names[:1], "val": names[1:3]}]
    (tmp_path / "splits.json").write_text(json.dumps(folds))
    error = refused(
        UsageError, "held-out-twice", slices, tmp_path / "run", n_folds=None, splits=tmp_path / "splits.json"
    )
    assert "lung_002" in str(error)


def test_splits_of_ones_own_and_patients_that_no_fold_holds_out(slices: Path, tmp_path: Path) -> None:
    names = [f"lung_{number:03d}" for number in range(1, 7)]
    folds = [{"train": names[3:], "val": names[:1]}, {"train": names[:1] + names[4:], "val": names[2:4]}]
    (tmp_path / "mine.json").write_text(json.dumps(folds))
    evaluation = started(slices, tmp_path / "run", n_folds=None, splits=tmp_path / "mine.json")
    assert [score.case for score in evaluation.cases] == ["lung_001", "lung_003", "lung_004"]
    assert evaluation.summary["never_held_out"] == ["lung_002", "lung_005", "lung_006"]
    (tmp_path / "mine.json").unlink()  # the folds were fixed when it started
    assert crossval(slices, tmp_path / "run", device="cpu").cases == evaluation.cases


def test_runs_of_the_two_kinds_are_not_mixed(done: CrossValidation, slices: Path, tmp_path: Path) -> None:
    train(slices, tmp_path / "one", recipe=SMALL.but(epochs=1), n_folds=3, device="cpu")
    assert "one fold" in str(refused(UsageError, "run-exists", slices, tmp_path / "one"))
    with pytest.raises(UsageError, match="cross-validated"):
        train(slices, slices.parent / "done", recipe=SMALL)


def test_what_evaluate_does_for_one_fold_only(run: Path, tmp_path: Path) -> None:
    for options in ({"threshold": 0.3}, {"scans": tmp_path}, {"checkpoint": "last"}):
        with pytest.raises(UsageError, match=next(iter(options))):
            evaluate(run, device="cpu", **options)


def test_nothing_to_compare_is_said_before_the_work(run: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("case,dice\nsomebody,0.5\n")
    shutil.rmtree(run / "evaluation")
    before = tree_bytes(run)
    with pytest.raises(UsageError, match=r"table\.csv: has no patient in common"):
        evaluate(run, device="cpu", compare=tmp_path / "table.csv")
    assert tree_bytes(run) == before


def test_settings_and_folders_that_can_not_be_meant(slices: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused(UsageError, "bad-setting", slices, run, epochs=0)
    refused(UsageError, "bad-setting", slices, run, max_minutes=-1.0)
    refused(UsageError, "folds", slices, run, n_folds=1)
    refused(UsageError, "unknown-device", slices, run, device="cpu,tpu")
    refused(UsageError, "run-in-data", slices, slices / "run")
    refused(UsageError, "missing-folder", tmp_path / "nothing", run)
    assert not (run / "crossval.json").exists() and not (slices / "run").exists()


def test_two_writers_are_refused(slices: Path, tmp_path: Path) -> None:
    with folder_lock(tmp_path / "run", stage="test"):
        assert refused(MachineError, "locked", slices, tmp_path / "run").exit_code == 5


def test_a_damaged_record_is_said(run: Path) -> None:
    (run / "crossval.json").write_text('{"format": 0}')
    assert "crossval.json" in str(refused(UsageError, "bad-config", run.parent / "slices", run))

"""Scores over all folds with planted predictions: what each patient is judged by, worked out by hand."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lungseg.crossval import crossval
from lungseg.crossval_folder import processed_of, read_chosen, read_folds
from lungseg.crossval_score import score_folds
from lungseg.held_out import native_truth
from lungseg.manifest import Manifest
from lungseg.metrics import dice
from lungseg.out_of_fold import FORMAT, MAPS, checked_fold
from lungseg.preprocess import preprocess
from lungseg.probability_map import write_map
from lungseg.run_folder import data_digest
from lungseg.tally import SliceTally

from .training import TINY
from .volumes import write_tree

pytestmark = pytest.mark.usefixtures("one_thread")
# More voxels than a true tumour has, so that no smallest volume parts the two.
FALSE = (slice(12, 22), slice(12, 22), 8)
LOW, HIGH = (60, 100), (150, 200)  # levels of false and of true voxels; 0.5 is level 128


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score")
    preprocess(write_tree(folder / "tree", cases=6), folder / "slices", size=32, skip_slices=2, workers=1)
    recipe = TINY.but(epochs=1, inner_val=0.0, augment="none")
    crossval(folder / "slices", folder / "run", recipe=recipe, n_folds=3, device="cpu")
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "slices", tmp_path / "slices")
    return shutil.copytree(finished / "run", tmp_path / "run")


def plant(run: Path, levels: dict[int, tuple[int, int]]) -> dict[str, int]:
    """Put maps in the place of the networks' own: by fold, the level of false voxels and of true ones.

    Returns:
        Fold by patient.
    """
    manifest, (folds, _) = Manifest.read(processed_of(run)), read_folds(run)
    for number, (false, true) in levels.items():
        fold = checked_fold(run, number, folds[number], manifest)
        for case in fold.cases:
            truth = native_truth(manifest, case)
            planted = np.where(truth > 0, true, 0).astype(np.uint8)
            planted[FALSE] = false
            facts = {"format": FORMAT, "weights": fold.weights, "slices": data_digest(manifest, [case])}
            write_map(fold.folder / MAPS, case, planted, facts, SliceTally().as_dict())
    return {case: number for number, fold in enumerate(folds) for case in fold.val}


def scored(run: Path) -> tuple[dict, dict[str, dict[str, str]]]:
    summary = score_folds(run, device="cpu", report=False).summary
    with open(run / "evaluation" / "cases.csv", newline="") as file:
        return summary, {row["case"]: row for row in csv.DictReader(file)}


def test_no_patient_enters_its_own_setting(run: Path) -> None:
    """Fold 0's patients want a threshold under 0.4, all others one over 0.6: fold 0 is judged by the others' wish."""
    fold_of = plant(run, {0: LOW, 1: HIGH, 2: HIGH})
    summary, rows = scored(run)
    settings = summary["tuned"]["settings_by_fold"]
    assert 150 / 256 < settings["0"]["threshold"] <= 200 / 256
    for case, row in rows.items():
        assert float(row["setting_threshold"]) == settings[str(fold_of[case])]["threshold"]
        if fold_of[case] == 0:  # a setting of its own would find it whole; this one finds nothing of it
            assert float(row["tuned_dice"]) == 0.0 and row["tuned_missed"] == "True"
    # Whatever becomes of fold 0's patients, their setting stays.
    for levels in (HIGH, (0, 250), (5, 6)):
        plant(run, {0: levels})
        assert scored(run)[0]["tuned"]["settings_by_fold"]["0"] == settings["0"]


def test_what_predict_uses_is_chosen_on_all_where_it_pays(run: Path) -> None:
    plant(run, {0: HIGH, 1: HIGH, 2: HIGH})
    summary, rows = scored(run)
    assert all(float(row["tuned_dice"]) == 1.0 > float(row["dice"]) > 0.3 for row in rows.values())
    assert summary["tuned"]["gain_in_dice"]["mean"] > 0 and summary["tuned"]["dice_mean"] == 1.0
    chosen = read_chosen(run).postprocessing
    assert 150 / 256 < chosen.threshold <= 200 / 256 and chosen.temperature == 1.0


def test_what_did_not_pay_on_others_is_not_passed_on(run: Path) -> None:
    """Fold 0 alone gains; nested, where its wish decides for nobody but the others, everybody loses."""
    plant(run, {0: LOW, 1: HIGH, 2: HIGH})
    summary, _ = scored(run)
    if summary["tuned"]["gain_in_dice"]["mean"] <= 0:
        assert read_chosen(run).postprocessing.plain
    plant(run, {0: (0, 130), 1: (0, 130), 2: (0, 130)})  # nothing to gain
    summary, _ = scored(run)
    assert summary["tuned"]["gain_in_dice"]["mean"] == 0 and read_chosen(run).postprocessing.plain


def test_the_plain_dice_is_that_of_the_planted_mask(run: Path) -> None:
    fold_of = plant(run, {0: HIGH, 1: HIGH, 2: (150, 100)})
    manifest, (_, rows) = Manifest.read(processed_of(run)), scored(run)
    for case, row in rows.items():
        truth = native_truth(manifest, case)
        found = truth.copy() if fold_of[case] != 2 else np.zeros_like(truth)
        found[FALSE] = 1
        assert float(row["dice"]) == pytest.approx(dice(truth, found), abs=1e-6)


def test_a_patient_that_can_not_be_scored_is_named_and_nothing_is_chosen(run: Path) -> None:
    (run / "crossval.json").write_text(json.dumps({**json.loads((run / "crossval.json").read_text()), "chosen": None}))
    path = processed_of(run) / "lung_003" / "tumour.npy"
    path.write_bytes(bytes(len(path.read_bytes())))
    scores = score_folds(run, device="cpu")
    assert scores.exit_code == 3 and list(scores.summary["not_scored"]) == ["lung_003"]
    assert scores.summary["dice_mean"] is None and scores.tuned == () and len(scores.cases) == 5
    assert json.loads((run / "crossval.json").read_text())["chosen"] is None
    assert "tumour.npy" in str(scores)

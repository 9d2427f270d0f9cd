"""The whole pipeline on a small sample: every stage's files are there, and a second call takes them as they are."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from lungseg.case_score import CaseScore
from lungseg.config import UNetConfig, recipe_named
from lungseg.demo import Demo, demo, typical
from lungseg.errors import NOTICE
from lungseg.splits import Split

SMALL = recipe_named("demo").but(unet=UNetConfig(widths=(4, 8), norm="batch"), epochs=1, batch_size=16)


def small_demo(out: Path) -> Demo:
    return demo(out, cases=4, test_cases=1, shape=(40, 40, 20), recipe=SMALL)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return small_demo(tmp_path_factory.mktemp("demo") / "out")


def test_a_third_of_the_patients_is_held_out_and_scored(done: Demo) -> None:
    split = Split.read(done.run.run / "splits.json")
    assert split.n_folds == 3 and [case.case for case in done.evaluation.cases] == list(split.held_out)
    assert len(split.train) + len(split.inner_val) + len(split.held_out) == 4
    summary = json.loads((done.evaluation.folder / "summary.json").read_text())
    assert summary["patients"] == len(split.held_out) and summary["complete"]


def test_held_out_and_unlabelled_patients_have_masks_on_their_own_grids(done: Demo) -> None:
    wanted = {case.case for case in done.evaluation.cases} | {"lung_005"}
    masks = sorted(done.predictions.glob("*.nii.gz"))
    assert {path.name.removesuffix(".nii.gz") for path in masks} == wanted
    for path in masks:
        folder = "imagesTs" if path.name.startswith("lung_005") else "imagesTr"
        scan, mask = nib.load(done.sample / folder / path.name), nib.load(path)
        assert mask.shape == scan.shape and set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
        np.testing.assert_array_equal(mask.affine, scan.affine)


def test_the_animations_can_be_opened(done: Demo) -> None:
    assert done.test_animation is not None
    for path in (done.animation, done.test_animation):
        with Image.open(path) as image:
            assert image.n_frames == 20


def test_the_closing_summary_says_where_everything_is(done: Demo) -> None:
    text = str(done)
    assert NOTICE in text and "mean Dice over" in text
    for path in (done.sample, done.slices, done.run.run, done.predictions, done.animation):
        assert str(path) in text and path.exists()


def test_a_second_call_trains_nothing_again(done: Demo) -> None:
    weights = done.run.best.read_bytes()
    stamp = done.run.best.stat().st_mtime_ns
    again = small_demo(done.sample.parent)
    assert again.run.best.stat().st_mtime_ns == stamp and again.run.best.read_bytes() == weights
    assert [case.as_dict() for case in again.evaluation.cases] == [case.as_dict() for case in done.evaluation.cases]


def test_the_typical_patient_is_neither_the_best_nor_the_worst() -> None:
    scores = [CaseScore(name, dice, 1.0, 1.0, 0.0, 0.0, False) for name, dice in (("a", 0.9), ("b", 0.1), ("c", 0.5))]
    assert typical(scores).case == "c"
    assert typical(scores[:2]).case == "a"

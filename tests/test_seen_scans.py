"""Masks of scans that the network was trained on are said to be such, when they are made and when they are scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lungseg.crossval_folder import Chosen, begin, write_chosen
from lungseg.crossval_folder import describe as describe_crossval
from lungseg.manifest import Manifest
from lungseg.postprocess import PLAIN
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.score import score
from lungseg.seen_scans import trained_on, trained_on_warning
from lungseg.splits import Split, k_fold

from .known_network import write_run
from .training import TINY
from .volumes import write_tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans, slices of them, and a run whose fold holds lung_002 out."""
    folder = tmp_path_factory.mktemp("seen")
    preprocess(write_tree(folder / "root", cases=4, test_cases=1), folder / "slices", size=32, skip_slices=0, workers=1)
    write_run(folder / "run", Manifest.read(folder / "slices"), held_out=["lung_002"])
    return folder


def test_the_scans_of_a_run_are_those_that_decided_its_weights(folder: Path, tmp_path: Path) -> None:
    seen, manifest = trained_on(folder / "run"), Manifest.read(folder / "slices")
    assert sorted(seen.values()) == ["lung_001", "lung_003", "lung_004"]
    assert seen[manifest.cases["lung_003"].source["image_hash"]] == "lung_003"
    assert trained_on(folder / "weights.safetensors") == {} == trained_on(tmp_path)
    shutil.copytree(folder / "run", tmp_path / "elsewhere" / "run")  # the way to its slices leads nowhere
    assert trained_on(tmp_path / "elsewhere" / "run") == {}


def test_those_that_chose_the_checkpoint_count_as_well(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "slices", tmp_path / "slices")
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    split = Split.read(run / "splits.json")
    Split(0, split.train[1:], split.train[:1], split.held_out, split.folds, split.source).write(run / "splits.json")
    assert trained_on(run) == trained_on(folder / "run")


def test_of_a_cross_validated_run_those_of_the_folds_that_are_used(folder: Path, tmp_path: Path) -> None:
    manifest, run = Manifest.read(folder / "slices"), tmp_path / "run"
    folds = k_fold(manifest.labelled, 2)
    config = describe_crossval(TINY, folds, manifest, max_minutes=0, limit_batches=0, deterministic=False)
    run.mkdir()
    begin(run, config, folds, "", manifest.root)
    assert trained_on(run) == {}  # it is not known yet which are used
    write_chosen(run, Chosen((1,), ("0" * 64,), PLAIN))
    assert sorted(trained_on(run).values()) == sorted(folds[1].train)
    write_chosen(run, Chosen((0, 1), ("0" * 64, "0" * 64), PLAIN))
    assert sorted(trained_on(run).values()) == manifest.labelled


def test_row_34_a_mask_of_a_scan_that_was_trained_on_is_said_to_be_one(folder: Path, tmp_path: Path) -> None:
    done = predict(folder / "run", folder / "root", tmp_path / "masks", device="cpu")
    warned = {problem.case: problem for problem in done.problems if problem.code == "trained-on"}
    assert sorted(warned) == ["lung_001", "lung_003", "lung_004"] and done.exit_code == 0
    assert "(lung_003)" in str(warned["lung_003"]) and "lungseg evaluate" in warned["lung_003"].mend
    renamed = shutil.copy(folder / "root" / "imagesTr" / "lung_003.nii.gz", tmp_path / "new.nii.gz")
    alone = predict(folder / "run", renamed, tmp_path / "mask.nii.gz", device="cpu")
    assert "(lung_003)" in str(alone)
    assert "trained-on" in json.loads((tmp_path / "mask.json").read_text())["warnings"]
    scores = score(tmp_path / "masks", folder / "root" / "labelsTr", workers=1)
    (flattered,) = [problem for problem in scores.problems if problem.code == "trained-on"]
    assert "3 of 4 masks" in str(flattered) and "lung_001, lung_003, lung_004" in str(flattered)
    assert scores.exit_code == 0 and scores.summary["dice_mean"] is not None


def test_masks_of_other_scans_or_tools_are_taken_without_a_word(folder: Path, tmp_path: Path) -> None:
    labels = folder / "root" / "labelsTr"
    for name in ("mask.json", "lung_002.json"):
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / name).write_text('{"warnings": ["trained-on"]}')  # of another tool: it names no mask
    scan = folder / "root" / "imagesTr" / "lung_002.nii.gz"
    shutil.copy(labels / "lung_002.nii.gz", tmp_path / "masks" / "lung_002.nii.gz")
    assert score(tmp_path / "masks" / "lung_002.nii.gz", labels / "lung_002.nii.gz").problems == ()
    done = predict(folder / "run", scan, tmp_path / "own" / "mask.nii.gz", device="cpu")
    assert done.problems == () and trained_on_warning("", {}, scan) == []

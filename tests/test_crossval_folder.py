"""The record of a cross-validated run: written, read, compared, and refused where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lungseg.crossval_folder import (
    Chosen,
    begin,
    describe,
    fold_folder,
    is_crossval,
    is_done,
    processed_of,
    read_chosen,
    read_crossval,
    read_folds,
    refuse_other,
    write_chosen,
)
from lungseg.errors import UsageError
from lungseg.postprocess import PostProcessing
from lungseg.splits import k_fold, read_splits

from .training import TINY, write_slices

LIMITS = {"max_minutes": 0, "limit_batches": 0, "deterministic": False}
CHOSEN = Chosen((0, 2), ("a" * 64, "b" * 64), PostProcessing(0.375, 0.1, 1.5))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    manifest = write_slices(tmp_path / "processed")
    folds, run = k_fold(manifest.labelled, 3), tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    begin(run, describe(TINY, folds, manifest, **LIMITS), folds, "some folds", manifest.root)
    return run


def test_what_was_written_is_read(run: Path) -> None:
    assert is_crossval(run) and not is_crossval(run.parent)
    config = read_crossval(run)
    assert config["processed"] == "../../processed" and processed_of(run).resolve().name == "processed"
    assert config["recipe"]["batch_size"] == TINY.batch_size and config["n_folds"] == 3
    folds, source = read_folds(run)
    assert folds == k_fold([f"lung_{number:03d}" for number in range(1, 7)], 3) and source == "some folds"
    assert read_splits(run / "splits.json", None) == folds
    assert fold_folder(run, 2) == run / "folds" / "2" and not is_done(run, 2)
    assert str(run) not in (run / "crossval.json").read_text()


def test_the_same_settings_go_on_and_others_are_named(run: Path, tmp_path: Path) -> None:
    manifest = write_slices(tmp_path / "again")
    folds = k_fold(manifest.labelled, 3)
    refuse_other(run, describe(TINY, folds, manifest, **LIMITS), folds)
    with pytest.raises(UsageError, match=r"recipe\.epochs, max_minutes"):
        refuse_other(run, describe(TINY.but(epochs=7), folds, manifest, **LIMITS | {"max_minutes": 2.0}), folds)
    swapped = [folds[1], folds[0], folds[2]]
    with pytest.raises(UsageError, match="val patients of fold 1"):
        refuse_other(run, describe(TINY, swapped, manifest, **LIMITS), swapped)


def test_what_was_chosen_is_read_again(run: Path) -> None:
    with pytest.raises(UsageError, match="has not ended"):
        read_chosen(run)
    write_chosen(run, CHOSEN)
    assert read_chosen(run) == CHOSEN
    CHOSEN.refuse_other_weights(run, CHOSEN.weights)
    with pytest.raises(UsageError, match="in fold 2"):
        CHOSEN.refuse_other_weights(run, ("a" * 64, "c" * 64))


def test_a_choice_of_before_there_were_shares_is_read(run: Path) -> None:
    write_chosen(run, CHOSEN)
    record = json.loads((run / "crossval.json").read_text())
    del record["chosen"]["smallest_share"]
    (run / "crossval.json").write_text(json.dumps(record))
    assert read_chosen(run) == CHOSEN


@pytest.mark.parametrize(
    "change",
    [{"folds": [0]}, {"folds": []}, {"folds": [0, -1]}, {"weights": None}, {"threshold": 2}, {"smallest_ml": "much"},
     {"smallest_share": 2},     {"more": 1}],
)  # fmt: skip
def test_a_damaged_choice_is_refused(run: Path, change: dict) -> None:
    write_chosen(run, CHOSEN)
    record = json.loads((run / "crossval.json").read_text())
    (run / "crossval.json").write_text(json.dumps({**record, "chosen": {**record["chosen"], **change}}))
    with pytest.raises(UsageError):
        read_chosen(run)


@pytest.mark.parametrize("change", [{"n_folds": "five"}, {"max_minutes": None}, {"limit_batches": 10**400}])
def test_beyond_the_list_a_record_with_a_wrong_number_is_named(run: Path, change: dict) -> None:
    path = run / "crossval.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=rf"crossval\.json: lacks a number of {next(iter(change))}"):
        read_crossval(run)


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"format": 2}', '{"format": 1, "recipe": 3}', '{"format": 1, "recipe": {}}']
)
def test_a_damaged_record_is_refused_with_its_name(run: Path, text: str) -> None:
    (run / "crossval.json").write_text(text)
    with pytest.raises(UsageError, match=r"crossval\.json"):
        read_crossval(run)

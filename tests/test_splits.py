"""Folds against nnU-Net's published ones, the checks of a user's file, and the draw of inner validation patients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lungseg.errors import UsageError
from lungseg.splits import Split, k_fold, make_split, read_splits

# The validation patients of nnU-Net's five folds of Task06_Lung (its published per-case results, all 63 cases).
NNUNET_FOLDS = [
    "006 010 033 034 041 042 046 048 059 065 066 070 079",
    "004 015 022 031 036 038 053 062 064 069 071 075 081",
    "001 005 009 026 037 044 047 049 074 078 080 083 086",
    "014 016 018 020 023 027 028 029 043 057 058 084",
    "003 025 045 051 054 055 061 073 092 093 095 096",
]
HELD_OUT = [tuple(f"lung_{number}" for number in fold.split()) for fold in NNUNET_FOLDS]
CASES = sorted(name for fold in HELD_OUT for name in fold)


def splits_file(folder: Path, value: object) -> Path:
    path = folder / "splits_final.json"
    path.write_text(json.dumps(value))
    return path


def test_default_folds_are_nnunets() -> None:
    folds = k_fold(reversed(CASES))
    assert len(CASES) == 63
    assert [fold.val for fold in folds] == HELD_OUT
    assert all(sorted(fold.train + fold.val) == CASES for fold in folds)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_cases_are_a_fold_each(count: int) -> None:
    folds = k_fold(CASES[:count])
    assert [fold.val for fold in folds] == [(name,) for name in CASES[:count]]
    assert all(len(fold.train) == count - 1 for fold in folds)


@pytest.mark.parametrize("cases", [[], ["lung_001"]])
def test_one_case_is_refused_with_what_to_do(cases: list[str]) -> None:
    with pytest.raises(UsageError, match="Preprocess more labelled scans"):
        k_fold(cases)


def test_groups_part_the_cases() -> None:
    split = make_split(CASES, fold=2)
    assert split.held_out == HELD_OUT[2]
    assert len(split.inner_val) == 8  # 0.15 of 50, rounded up
    assert sorted(split.train + split.inner_val + split.held_out) == CASES


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.001, 1), (0.1, 5), (0.5, 25), (0.999, 49)])
def test_inner_validation_is_rounded_up_and_never_all(share: float, count: int) -> None:
    assert len(make_split(CASES, fold=2, inner_val=share).inner_val) == count


def test_inner_validation_depends_on_the_seed_alone() -> None:
    drawn = [make_split(CASES, seed=seed).inner_val for seed in range(20)]
    assert make_split(list(reversed(CASES)), seed=7).inner_val == drawn[7]
    assert len(set(drawn)) == 20
    # Every one of the 50 training patients has its chance: 20 draws of 8 miss one with probability 0.84^20 = 3 %.
    assert len({name for names in drawn for name in names}) > 40


def test_a_single_training_patient_is_kept_for_training() -> None:
    split = make_split(["a", "b"], fold=1)
    assert (split.train, split.inner_val, split.held_out) == (("a",), (), ("b",))


@pytest.mark.parametrize("fold", [-1, 5])
def test_fold_out_of_range_says_the_range(fold: int) -> None:
    with pytest.raises(UsageError, match="expected 0 to 4"):
        make_split(CASES, fold=fold)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_inner_share_out_of_range(share: float) -> None:
    with pytest.raises(UsageError, match="0 to below 1"):
        make_split(CASES, inner_val=share)


def test_a_split_comes_back_from_its_file_and_serves_as_splits_file(tmp_path: Path) -> None:
    split = make_split(CASES, fold=1)
    split.write(tmp_path / "splits.json")
    assert Split.read(tmp_path / "splits.json") == split
    assert tuple(read_splits(tmp_path / "splits.json", CASES)) == split.folds
    assert make_split(CASES, fold=3, splits=tmp_path / "splits.json").held_out == HELD_OUT[3]


def test_nnunets_file_is_taken(tmp_path: Path) -> None:
    path = splits_file(tmp_path, [{"train": ["a", "b", "c"], "val": ["d"]}, {"train": ["c", "d"], "val": ["b", "a"]}])
    split = make_split("abcde", fold=1, splits=path, inner_val=0.0)
    assert (split.train, split.held_out, split.n_folds) == (("c", "d"), ("a", "b"), 2)
    assert split.source == "file splits_final.json"


def test_row_34_a_patient_in_train_and_val_is_refused_and_named(tmp_path: Path) -> None:
    path = splits_file(tmp_path, [{"train": ["a", "b", "c"], "val": ["c", "d", "a"]}])
    with pytest.raises(UsageError, match=r"splits_final\.json: train and val of fold 0 .*found a, c"):
        read_splits(path, "abcd")


def test_row_34_a_tampered_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    make_split(CASES).write(path)
    value = json.loads(path.read_text())
    value["train"].append(value["held_out"][0])
    path.write_text(json.dumps(value))
    with pytest.raises(UsageError, match=r"splits\.json: the train and held_out patients .*lung_006"):
        Split.read(path)


def test_all_unknown_patients_are_listed(tmp_path: Path) -> None:
    path = splits_file(tmp_path, [{"train": ["a", "x"], "val": ["b"]}, {"train": ["b"], "val": ["y"]}])
    with pytest.raises(UsageError, match="2 unknown: x, y"):
        read_splits(path, "ab")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "no list of folds"),
        ([], "no list of folds"),
        ("text", "no list of folds"),
        ([["a"]], "fold 0 is no object"),
        ([{"train": ["a"]}], "val of fold 0 is no list"),
        ([{"train": "a", "val": ["b"]}], "train of fold 0 is no list"),
        ([{"train": [1], "val": ["b"]}], "train of fold 0 is no list"),
        ([{"train": [], "val": ["b"]}], "train of fold 0 is empty"),
        ([{"train": ["a", "a"], "val": ["b"]}], "more than once"),
    ],
)
def test_malformed_files_are_said(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read_splits(splits_file(tmp_path, value), "ab")
    assert "splits_final.json" in caught.value.problem.file


def test_broken_json_and_missing_file(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('[{"train": ["a"')
    with pytest.raises(UsageError, match="no valid JSON"):
        read_splits(tmp_path / "bad.json", "ab")
    with pytest.raises(UsageError, match="no such file"):
        read_splits(tmp_path / "none.json", "ab")

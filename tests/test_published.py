"""The published figures: what the table holds, who is compared, and that a name alone makes no patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lungseg.case_record import CaseRecord
from lungseg.published import (
    AIMS,
    PublishedCase,
    PublishedTable,
    against_published,
    published_task06,
    same_folds,
    same_patients,
)
from lungseg.splits import Fold, k_fold

from .processed import write_processed

TABLE = PublishedTable(
    source="here",
    licence="none",
    citation="nobody",
    columns={"dice_a": "method A", "dice_b": "method B"},
    cases={
        "p": PublishedCase(0, 100, {"dice_a": 0.5, "dice_b": 0.0}),
        "q": PublishedCase(0, 10, {"dice_a": 0.25, "dice_b": 0.75}),
        "r": PublishedCase(1, 50, {"dice_a": 0.75, "dice_b": 0.5}),
    },
)


def test_the_table_holds_all_labelled_patients_with_the_means_that_were_published() -> None:
    table = published_task06()
    assert len(table.cases) == 63 and set(table.columns) == {"dice_default", "dice_resenc_m", "dice_resenc_l"}
    means = {name: sum(case.dice[name] for case in table.cases.values()) / 63 for name in table.columns}
    assert {name: round(mean, 3) for name, mean in means.items()} == {
        "dice_default": 0.682, "dice_resenc_m": 0.679, "dice_resenc_l": 0.685
    }  # fmt: skip
    under = {name: sum(case.dice[name] < 0.05 for case in table.cases.values()) for name in table.columns}
    assert under == {"dice_default": 6, "dice_resenc_m": 7, "dice_resenc_l": 6}
    assert "automl/AutoNNUnet" in table.source and "BSD-3-Clause" in table.licence and table.citation
    assert AIMS[0].dice == round(means["dice_resenc_l"], 3)


def test_its_folds_are_those_that_the_package_makes_of_its_patients() -> None:
    table = published_task06()
    folds = k_fold(table.cases)
    assert [{table.cases[case].fold for case in fold.val} for fold in folds] == [{0}, {1}, {2}, {3}, {4}]
    assert same_folds(table, folds)


def test_folds_may_be_numbered_otherwise_and_lack_patients_but_not_be_mixed() -> None:
    assert same_folds(TABLE, [Fold(("p", "q"), ("r",)), Fold(("r", "x"), ("q", "y"))])
    assert not same_folds(TABLE, [Fold(("q",), ("p", "r")), Fold(("p", "r"), ("q",))])
    assert not same_folds(TABLE, [Fold(("q", "r"), ("p",)), Fold(("p", "r"), ("q",))])  # one fold was parted
    assert not same_folds(TABLE, [Fold(("x",), ("y",))])


@pytest.fixture
def records(tmp_path: Path) -> dict[str, CaseRecord]:
    manifest = write_processed(tmp_path / "slices", {"p": [100], "q": [10], "r": [50], "s": [5]}, unlabelled=("s",))
    voxels = {"p": 100, "q": 11, "r": 50, "s": 0}
    return {name: replace(record, tumour_voxels=voxels[name]) for name, record in manifest.cases.items()}


def test_a_patient_is_known_by_the_voxels_of_its_label_and_of_slice_sets_by_name(
    records: dict[str, CaseRecord],
) -> None:
    assert same_patients(TABLE, records) == ["p", "r"]
    assert same_patients(TABLE, records, slice_sets=True) == ["p", "q", "r"]


def test_every_setting_is_compared_with_every_column_by_hand() -> None:
    ours = {"plain": {"p": 0.75, "q": 1.0, "r": 0.0, "x": 0.9}, "tuned": {"p": 0.75, "q": 0.5, "r": 0.75}}
    found = against_published(ours, TABLE, ["p", "q", "r"])
    assert [(one.ours, one.comparison.other, one.comparison.column) for one in found] == [
        ("plain", "method A", "dice_a"), ("tuned", "method A", "dice_a"),
        ("plain", "method B", "dice_b"), ("tuned", "method B", "dice_b"),
    ]  # fmt: skip
    first = found[0]
    assert first.comparison.difference == pytest.approx((0.25 + 0.75 - 0.75) / 3)
    assert (first.comparison.better, first.comparison.worse) == (2, 1)
    assert first.missed == (1, 0) and found[2].missed == (1, 1)
    assert first.smallest_patients == 1 and first.smallest == (1.0, 0.25)  # q has the fewest voxels
    plain = first.as_dict()
    assert plain["comparison"]["difference"] == round(0.25 / 3, 6) and "cases" not in plain["comparison"]
    assert str(first).startswith("against method A; ours: plain\n  mean Dice 0.583 against 0.500, difference +0.083 (")
    assert "better in 2 of 3, worse in 1" in str(first) and "under 0.05 in 1 against 0" in str(first)


def test_somebody_else_of_the_same_name_is_left_out_by_name() -> None:
    (found,) = against_published({"plain": {"p": 0.5, "q": 0.5}}, replace(TABLE, columns={"dice_a": "A"}), ["p"])
    assert found.comparison.patients == 1 and found.comparison.mean_other == 0.5
    assert found.comparison.only_here == ("q",) and found.comparison.only_there == ("r",)
    assert against_published({"plain": {"q": 0.5}}, TABLE, []) == ()

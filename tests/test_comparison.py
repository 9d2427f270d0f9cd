"""Two methods on the same patients: which column is meant, who is left out, and against SciPy's permutation test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lungseg.comparison import NOT_ALIKE, check_shared, compare
from lungseg.errors import UsageError
from lungseg.other_scores import OtherScores, read_scores

# The first lines of the table of nnU-Net's published runs, by the columns that it has.
TABLE = "case,fold,tumour_voxels,dice_default,dice_resenc_m\na,2,2719,0.8577,0.8691\nb,4,1324,0.6814,0.605\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_column_is_chosen_by_a_colon(tmp_path: Path) -> None:
    path = write(tmp_path / "nnunet.csv", TABLE)
    other = read_scores(f"{path}:dice_resenc_m")
    assert (other.name, other.column, dict(other.dice)) == ("nnunet.csv", "dice_resenc_m", {"a": 0.8691, "b": 0.605})
    assert read_scores(f"{path}:dice_default").dice["b"] == 0.6814


def test_without_one_it_is_dice_or_the_only_one_that_begins_so(tmp_path: Path) -> None:
    assert read_scores(write(tmp_path / "1.csv", "case,dice_soft,dice\na,0.1,0.2\n")).column == "dice"
    assert read_scores(write(tmp_path / "2.csv", "case,fold,dice_default\na,1,0.2\n")).column == "dice_default"
    with pytest.raises(UsageError, match=r"more than one column.*dice_default, dice_resenc_m.*3\.csv:dice_default"):
        read_scores(write(tmp_path / "3.csv", TABLE))
    with pytest.raises(UsageError, match="no column of Dice"):
        read_scores(write(tmp_path / "4.csv", "case,score\na,0.2\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,dice\na,0.1\n", "no column `case`"),
        ("", "no column `case`"),
        ("case,dice\n", "holds no patient"),
        ("case,dice\na,0.1\na,0.2\n", "names a case twice in line 3"),
        ("case,dice\na,0.1\nb,\n", "no Dice in line 3"),
        ("case,dice\na,nan\n", "no Dice in line 2"),
        ("case,dice\na,68.2\n", "no Dice in line 2"),
        ("case,dice\na\n", r"no Dice in line 2 .* found nothing\). Write a patient's Dice as 0.75"),
        ("case;dice\na;0,5\n;0,2\n", "names no case in line 3"),
        ("case;dice\na;0,5;\nb;half\n", "no Dice in line 3"),
        ("name;dice\na;0.1\n", "found name, dice.*Name the column of patients `case`"),
    ],
)
def test_a_table_that_can_not_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_scores(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    "text",
    [
        "case;dice\na;0,5\nb;0.25\n",
        "case\tdice\na\t0.5\nb\t0.25\n",
        "case, dice\na , 0.5\n\n , \nb, 0.25\n,\n",
        '"case";"dice"\r\n"a";"0,5"\r\n"b";"0,25"\r\n',
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, text: str) -> None:
    assert dict(read_scores(write(tmp_path / "a.csv", text)).dice) == {"a": 0.5, "b": 0.25}


def test_row_49_a_run_of_cases_with_blanks_in_their_names_is_read_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "run" / "evaluation" / "cases.csv", "case,dice\n a ,0.5\n")
    assert dict(read_scores(tmp_path / "run").dice) == {" a ": 0.5}


def test_a_missing_file_column_or_evaluation_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", TABLE)
    with pytest.raises(UsageError, match="no such file"):
        read_scores(tmp_path / "b.csv")
    with pytest.raises(UsageError, match="no such file"):
        read_scores(f"{tmp_path}/b.csv:dice")
    with pytest.raises(UsageError, match=r"no such column.*dice_default.*dice_best"):
        read_scores(f"{path}:dice_best")
    with pytest.raises(UsageError, match="lungseg evaluate"):
        read_scores(tmp_path)


def test_a_file_may_have_a_colon_in_its_name_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "a:b.csv", "\ufeffcase,dice\nx,0.5\n")
    assert dict(read_scores(path).dice) == {"x": 0.5} == dict(read_scores(f"{path}:dice").dice)


def test_a_run_is_read_by_what_its_evaluation_wrote(tmp_path: Path) -> None:
    write(tmp_path / "run" / "evaluation" / "cases.csv", "case,dice,missed\na,0.25,False\n")
    assert read_scores(tmp_path / "run") == OtherScores("run", "dice", {"a": 0.25})
    write(tmp_path / "run" / "evaluation" / "summary.json", json.dumps({"slice_sets": True}))
    assert read_scores(tmp_path / "run").slice_sets


def test_by_hand() -> None:
    other = OtherScores("o", "dice", {"a": 0.25, "b": 0.75, "c": 0.25, "y": 1})
    result = compare({"a": 0.5, "b": 0.75, "c": 1.0, "x": 0.1}, other)
    assert (result.patients, result.better, result.worse, result.equal) == (3, 2, 0, 1)
    assert result.mean == 0.75 and result.mean_other == pytest.approx(1.25 / 3)
    assert result.difference == pytest.approx(1 / 3) and result.p == 0.5  # 4 of the 8 ways to flip the signs
    assert result.only_here == ("x",) and result.only_there == ("y",)
    assert [row["case"] for row in result.cases] == ["b", "a", "c"]
    low, high = result.interval
    assert 0 <= low < result.difference < high <= 0.75
    text = str(result)
    assert "on 3 patients" in text and "difference +0.333" in text and "only there: 1 (y)" in text
    assert json.loads(json.dumps(result.as_dict()))["cases"][0]["case"] == "b"
    assert max(map(len, text.splitlines())) <= 120


def test_without_a_shared_patient_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"table\.csv: has no patient in common"):
        compare({"a": 0.5}, OtherScores("table.csv", "dice", {"b": 0.5}))
    with pytest.raises(UsageError, match="nothing to compare"):
        check_shared(["a"], OtherScores("o", "dice", {"A": 0.5}))


def test_of_one_patient_there_is_no_interval() -> None:
    result = compare({"a": 0.5}, OtherScores("o", "dice", {"a": 0.25}))
    assert result.interval is None and result.p == 1.0 and "1 patient " in str(result)


def test_slice_sets_against_whole_scans_is_no_fair_comparison() -> None:
    dice, whole = {"a": 0.5}, OtherScores("o", "dice", {"a": 0.25})
    text = str(compare(dice, whole, slice_sets=True))
    assert NOT_ALIKE in " ".join(text.split()) and max(map(len, text.splitlines())) <= 120
    assert compare(dice, OtherScores("o", "dice", {"a": 0.25}, slice_sets=True), slice_sets=True).note == ""
    assert compare(dice, whole).note == ""

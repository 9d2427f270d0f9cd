"""The curves of a run from its ``metrics.csv``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lungseg.errors import DataError, LungsegError, UsageError
from lungseg.visualize import training_curves
from lungseg.visualize.picture import Picture

ROWS = "epoch,train_loss,val_loss,val_dice,val_soft_dice_pooled\n1,0.9,0.8,0.1,0.2\n2,0.5,0.6,0.4,0.5\n"


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(ROWS)
    return path


def lines(figure: Picture) -> dict[str, list[list[float]]]:
    """[[epoch, value], ...] of each curve by its name in the legend."""
    return {
        str(line.get_label()): np.asarray(line.get_xydata()).tolist() for axes in figure.axes for line in axes.lines
    }


def test_every_column_is_a_curve_by_epoch(metrics: Path) -> None:
    figure = training_curves(metrics)
    assert isinstance(figure, Picture) and len(figure.axes) == 2
    assert lines(figure) == {
        "training": [[1, 0.9], [2, 0.5]],
        "validation": [[1, 0.8], [2, 0.6]],
        "Dice, mean of patients": [[1, 0.1], [2, 0.4]],
        "soft Dice, all pixels pooled": [[1, 0.2], [2, 0.5]],
    }
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "validation Dice"]


def test_losses_and_dice_in_rows_of_their_own_are_joined_and_sorted(metrics: Path) -> None:
    metrics.write_text("epoch,step,train_loss,val_loss\n2,9,,0.3\n1,9,0.9,\n2,9,0.7,\n1,9,,0.5\n")
    assert lines(training_curves(metrics)) == {"training": [[1, 0.9], [2, 0.7]], "validation": [[1, 0.5], [2, 0.3]]}


def test_without_validation_there_is_no_empty_panel(metrics: Path) -> None:
    metrics.write_text("epoch,train_loss,val_loss,val_dice\n1,0.9,,\n2,0.5,,\n")
    figure = training_curves(metrics)
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss"]
    assert figure.get_figwidth() == 4.0


def test_a_value_that_is_not_finite_leaves_a_gap(metrics: Path) -> None:
    metrics.write_text("epoch,train_loss\n1,0.9\n2,nan\n3,inf\n4,0.5\n")
    assert lines(training_curves(metrics)) == {"training": [[1, 0.9], [4, 0.5]]}


def test_a_single_epoch_has_a_point_and_one_whole_number_below(metrics: Path) -> None:
    metrics.write_text("epoch,val_dice\n1,0\n")
    (right,) = training_curves(metrics).axes
    low, high = right.get_xlim()
    assert [tick for tick in right.get_xticks() if low <= tick <= high] == [1]
    assert right.lines[0].get_marker() == "." and right.get_ylim()[0] < 0


def test_the_picture_is_written_where_asked(metrics: Path, tmp_path: Path) -> None:
    training_curves(metrics, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


@pytest.mark.parametrize("text", ["", "epoch,train_loss\n", "epoch,other\n1,2\n", "epoch,train_loss\n1,\n2,nan\n"])
def test_without_an_epoch_it_says_to_train(metrics: Path, text: str) -> None:
    metrics.write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv: there is no epoch to show.*Train"):
        training_curves(metrics)


@pytest.mark.parametrize("row", ["1,abc", ",0.5", "x,0.5"])
def test_a_broken_row_is_named_by_its_line(metrics: Path, row: str) -> None:
    metrics.write_text(f"epoch,train_loss\n1,0.9\n{row}\n")
    with pytest.raises(DataError, match="line 3"):
        training_curves(metrics)


def test_bytes_that_are_no_text_are_refused(metrics: Path) -> None:
    metrics.write_bytes(b"epoch,train_loss\n\xff\xfe\n")
    with pytest.raises(DataError, match="is no CSV file"):
        training_curves(metrics)


def test_missing_file_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(LungsegError, match=r"no\.csv") as caught:
        training_curves(tmp_path / "no.csv")
    assert isinstance(caught.value, UsageError)

"""The curves of a training run, read from its ``metrics.csv``."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lungseg.errors import DataError
from lungseg.files import machine_error

from .picture import Picture

LOSS_LINES = (("train_loss", "training"), ("val_loss", "validation"))
DICE_LINES = (("val_dice", "Dice, mean of patients"), ("val_soft_dice_pooled", "soft Dice, all pixels pooled"))
_COLOURS = ("#0072b2", "#d55e00")  # blue and vermillion of Okabe and Ito's palette


def training_curves(metrics_csv: str | Path, out: str | Path | None = None) -> Picture:
    """Training and validation loss, and the validation's Dice beside them, by epoch; a panel each, where there are any.

    Args:
        metrics_csv: ``RUN/metrics.csv`` with a column ``epoch`` and any of ``train_loss``, ``val_loss``, ``val_dice``
            and ``val_soft_dice_pooled``; an empty cell or column is left out.
        out: also write the figure there (``.png``, ``.pdf`` or ``.svg``), in one step.

    Raises:
        UsageError: there is no such file.
        DataError: it holds no epoch, or a cell that is no number.
    """
    values = read_metrics(metrics_csv)
    shown = [(LOSS_LINES, "loss"), (DICE_LINES, "validation Dice")]
    shown = [(lines, label) for lines, label in shown if any(values[name] for name, _ in lines)]
    figure = Picture(figsize=(4 * len(shown), 3.2), dpi=100, layout="constrained")
    for axes, (lines, label) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _draw(axes, values, lines, label)
        if lines is DICE_LINES:
            axes.set_ylim(-0.03, 1.03)  # a little beyond 0 and 1, so that a marker on the edge is whole
    if out is not None:
        figure.write(out)
    return figure


def read_metrics(metrics_csv: str | Path) -> dict[str, list[tuple[float, float]]]:
    """(epoch, value) of each column of a run's ``metrics.csv``, rising by epoch; cells without a number left out.

    Raises:
        UsageError: there is no such file.
        DataError: it holds no epoch, or a cell that is no number.
    """
    path = Path(metrics_csv)
    wanted = [name for name, _ in (*LOSS_LINES, *DICE_LINES)]
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as cause:
        raise machine_error(cause, path) from cause
    except (UnicodeDecodeError, csv.Error) as cause:
        raise DataError.of("bad-metrics", "is no CSV file", found=str(cause), file=path) from cause
    for number, row in enumerate(rows, start=2):
        for name in wanted:
            cell = row.get(name) or ""
            if not cell.strip():
                continue
            try:
                epoch, value = float(row.get("epoch") or ""), float(cell)
            except ValueError as cause:
                raise DataError.of(
                    "bad-metrics", f"line {number} is no row of metrics", expected="an epoch and numbers",
                    found=f"epoch {row.get('epoch')!r}, {name} {cell!r}", file=path,
                ) from cause  # fmt: skip
            if math.isfinite(value):
                values[name].append((epoch, value))
    if not any(values.values()):
        raise DataError.of(
            "no-epochs", "there is no epoch to show", expected=f"columns epoch and {', '.join(wanted)}", file=path,
            mend="Train for one epoch or more.",
        )  # fmt: skip
    return {name: sorted(points) for name, points in values.items()}


def _draw(
    axes: Axes, values: dict[str, list[tuple[float, float]]], columns: tuple[tuple[str, str], ...], label: str
) -> None:
    for (name, legend), colour in zip(columns, _COLOURS, strict=True):
        if values[name]:
            # The marker shows a run of a single epoch, which has no line.
            axes.plot(*zip(*values[name], strict=True), color=colour, marker=".", label=legend)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)

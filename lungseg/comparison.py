"""The Dice of two methods on the same patients: paired differences, their interval, and a permutation test."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import LungsegError, UsageError, printable
from .files import machine_error, read_json
from .statistics import CONFIDENCE, bootstrap_interval, sign_flip_p

CASES_OF_A_RUN = Path("evaluation", "cases.csv")
SUMMARY_OF_A_RUN = Path("evaluation", "summary.json")
COLUMN = "dice"
_SEPARATORS = ",;\t"
_SHAPE = "a table with a column `case` and one of Dice, such as `case,dice`"
NOT_ALIKE = (
    "These are slice sets, in which nearly every slice shows tumour: their Dice is higher than on whole scans, so a "
    "difference from figures of whole scans says nothing of the method."
)


@dataclass(frozen=True)
class OtherScores:
    """Dice by patient of another run or method.

    Args:
        name: of the run's folder or the file; no path.
        column: of the file that was taken.
        dice: by case.
        slice_sets: whether they were taken on slice sets, as far as is known.
    """

    name: str
    column: str
    dice: Mapping[str, float]
    slice_sets: bool = False


@dataclass(frozen=True)
class Comparison:
    """What the patients that both have scored say.

    Args:
        other: name of the other run or file.
        column: of its table.
        patients: that both have.
        mean: Dice of this run over them.
        mean_other: Dice of the other one.
        difference: this minus other, mean.
        interval: of ``difference``, by the bootstrap over patients; None for a single patient.
        p: of the permutation test (:func:`lungseg.statistics.sign_flip_p`).
        better, worse, equal: patients with a higher, a lower and the same Dice here.
        only_here, only_there: patients that are left out because the other one has none.
        cases: ``case``, ``dice``, ``other`` and ``difference`` of each, the largest loss first.
        note: what the figures can not mean; may be empty.
    """

    other: str
    column: str
    patients: int
    mean: float
    mean_other: float
    difference: float
    interval: tuple[float, float] | None
    p: float
    better: int
    worse: int
    equal: int
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    cases: tuple[dict[str, Any], ...]
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}
        interval = None if self.interval is None else [round(end, 6) for end in self.interval]
        return {**values, "interval": interval, "confidence": CONFIDENCE, "only_here": list(self.only_here),
                "only_there": list(self.only_there), "cases": list(self.cases)}  # fmt: skip

    def __str__(self) -> str:
        between = ""
        if self.interval is not None:
            between = f" ({CONFIDENCE:.0%} interval {self.interval[0]:+.3f} to {self.interval[1]:+.3f})"
        count = "1 patient" if self.patients == 1 else f"{self.patients} patients"
        lines = [
            f"against {printable(self.other)}, column {printable(self.column)}, on {count} that both have: "
            f"mean Dice {self.mean:.3f} against {self.mean_other:.3f},",
            f"  difference {self.difference:+.3f}{between}, permutation test p = {self.p:.4f}; "
            f"better in {self.better}, worse in {self.worse}, equal in {self.equal}",
        ]
        for names, where in ((self.only_here, "only here"), (self.only_there, "only there")):
            if names:
                some = ", ".join(map(printable, names[:5])) + (", ..." if len(names) > 5 else "")
                lines.append(f"  left out, {where}: {len(names)} ({some})")
        lines += textwrap.wrap(self.note, 110, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)


def compare(dice: Mapping[str, float], other: OtherScores, *, slice_sets: bool = False, seed: int = 0) -> Comparison:
    """Compare patient by patient.

    Args:
        dice: of this run, by case.
        other: what to compare with.
        slice_sets: whether this run was scored on slice sets.
        seed: of the bootstrap and the permutation test.

    Raises:
        UsageError: the two have no patient in common.
    """
    shared = check_shared(dice, other)
    ours, theirs = (np.array([scores[case] for case in shared]) for scores in (dice, other.dice))
    apart = np.round(ours - theirs, 6)  # as many places as a table of a run has, so that equal ones are equal
    rows = [
        {"case": case, "dice": round(a, 6), "other": round(b, 6), "difference": round(a - b, 6)}
        for case, a, b in zip(shared, ours.tolist(), theirs.tolist(), strict=True)
    ]
    return Comparison(
        other=other.name,
        column=other.column,
        patients=len(shared),
        mean=float(ours.mean()),
        mean_other=float(theirs.mean()),
        difference=float(apart.mean()),
        interval=bootstrap_interval(apart, seed=seed),
        p=sign_flip_p(apart, seed=seed),
        better=int(np.count_nonzero(apart > 0)),
        worse=int(np.count_nonzero(apart < 0)),
        equal=int(np.count_nonzero(apart == 0)),
        only_here=tuple(sorted(set(dice) - set(other.dice))),
        only_there=tuple(sorted(set(other.dice) - set(dice))),
        cases=tuple(sorted(rows, key=lambda row: (row["difference"], row["case"]))),
        note=NOT_ALIKE if slice_sets and not other.slice_sets else "",
    )


def check_shared(cases: Mapping[str, Any] | Sequence[str], other: OtherScores) -> list[str]:
    """The cases that both have, sorted.

    Raises:
        UsageError: there is none.
    """
    shared = sorted(set(cases) & set(other.dice))
    if not shared:
        raise UsageError.of(
            "nothing-shared",
            "has no patient in common with this run, so there is nothing to compare",
            expected=f"some of {', '.join(sorted(cases)[:5])}{', ...' if len(cases) > 5 else ''}",
            found=f"{', '.join(sorted(other.dice)[:5])}{', ...' if len(other.dice) > 5 else ''}",
            file=other.name,
        )
    return shared


def read_scores(source: str | Path) -> OtherScores:
    """Dice by patient of ``RUN``, ``FILE.csv`` or ``FILE.csv:COLUMN``.

    Of a run's folder it is what ``lungseg evaluate`` wrote there.  Of a file it is the column named after the colon;
    without, the column ``dice``, or the only one whose name begins so.

    Raises:
        UsageError: there is no such file or column, or more than one column could be meant; a value is no Dice, or a
            case stands there twice.
    """
    path, column = _split(str(source))
    slice_sets = False
    name = path.name
    if path.is_dir():
        name, run = path.resolve().name, path
        path = run / CASES_OF_A_RUN
        if not path.is_file():
            mend = f"Score it first: lungseg evaluate {printable(run)}"
            raise UsageError.of("not-evaluated", "holds no evaluated run", file=run, mend=mend)
        summary = read_json(run / SUMMARY_OF_A_RUN) if (run / SUMMARY_OF_A_RUN).is_file() else {}
        slice_sets = isinstance(summary, dict) and summary.get("slice_sets") is True
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            head = file.readline()
            separator = max(_SEPARATORS, key=head.count)  # spreadsheets write ; where a comma is for decimals
            names = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
            chosen = _column(names, column, path)
            dice: dict[str, float] = {}
            reader = csv.reader(file, delimiter=separator)
            for values in reader:
                row, line = dict(zip(names, values, strict=False)), reader.line_num + 1
                if not "".join(values).strip():
                    continue
                case = row["case"] if name != path.name else row["case"].strip()  # a run's own table has no blanks
                if not case or case in dice:
                    what = f"names a case twice in line {line}" if case else f"names no case in line {line}"
                    raise _bad(path, what, "each case once", case)
                dice[case] = _dice(row.get(chosen, "").strip(), path, line, separator)
    except OSError as cause:
        raise machine_error(cause, path) from cause
    except csv.Error as cause:
        raise _bad(path, "is no CSV", _SHAPE, str(cause)) from cause
    if not dice:
        raise _bad(path, "holds no patient", _SHAPE, "no row")
    return OtherScores(name, chosen, dice, slice_sets)


def _split(source: str) -> tuple[Path, str | None]:
    """The file or folder, and the column after its last colon (a colon may stand in a name, or after a drive)."""
    if Path(source).exists() or ":" not in source:
        return Path(source), None
    file, _, column = source.rpartition(":")
    return (Path(file), column) if file and Path(file).is_file() else (Path(source), None)


def _column(names: Sequence[str], wanted: str | None, path: Path) -> str:
    if "case" not in names:
        mend = "Name the column of patients `case` in the first line."
        raise _bad(path, "has no column `case`", _SHAPE, ", ".join(filter(None, names)) or "an empty file", mend)
    if wanted is not None:
        if wanted not in names or wanted == "case":
            raise _bad(path, "has no such column of Dice", ", ".join(name for name in names if name != "case"), wanted)
        return wanted
    likely = [name for name in names if name.lower().startswith(COLUMN)]
    if COLUMN in names or len(likely) == 1:
        return COLUMN if COLUMN in names else likely[0]
    mend = f"Name one: {printable(path.name)}:{(likely or ['COLUMN'])[0]}"
    what = "has more than one column of Dice" if likely else "has no column of Dice"
    raise _bad(path, what, "one column `dice`, or its name after a colon", ", ".join(likely or names), mend)


def _dice(text: str, path: Path, line: int, separator: str) -> float:
    try:
        value = float(text if separator == "," else text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        found = repr(text) if text else "nothing"
        mend = "Write a patient's Dice as 0.75, not as 75 %; take out the line of one that was not scored."
        raise _bad(path, f"holds no Dice in line {line}", "a number from 0 to 1", found, mend)
    return value


def _bad(path: Path, what: str, expected: str, found: str, mend: str = "") -> LungsegError:
    return UsageError.of("bad-scores", what, expected=expected, found=found, file=path, mend=mend)

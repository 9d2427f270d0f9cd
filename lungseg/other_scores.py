"""The Dice by patient of another run or method, read from a run's folder or from a table that anybody wrote."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LungsegError, UsageError, printable
from .files import machine_error
from .records import read_json

CASES_OF_A_RUN = Path("evaluation", "cases.csv")
SUMMARY_OF_A_RUN = Path("evaluation", "summary.json")
COLUMN = "dice"
_SEPARATORS = ",;\t"
_SHAPE = "a table with a column `case` and one of Dice, such as `case,dice`"


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

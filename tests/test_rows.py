"""Each of the 50 faults that the project promises to refuse or to survive has a test that is named after it."""

from __future__ import annotations

import re
from pathlib import Path

# docs/faults.md lists what each row is.
ROWS = range(1, 51)
_NAME = re.compile(r"def test_rows?_((?:[0-9]{2}_(?:and_|to_)?)+)")


def rows_of(name: str) -> set[int]:
    """The rows that a test's name gives: ``row_07_``, ``rows_36_and_37_``, ``rows_14_to_22_``, ``row_04_05_06_``."""
    first, last = re.match(r"([0-9]{2})_to_([0-9]{2})_", name), re.findall("[0-9]{2}", name)
    return set(range(int(first[1]), int(first[2]) + 1)) if first else {int(row) for row in last}


def test_every_row_has_a_test_of_its_name() -> None:
    found: set[int] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for match in _NAME.finditer(path.read_text("utf-8")):
            rows = rows_of(match[1])
            found |= set() if "_to_" in match[1] else rows  # a range says too little of each
    assert found >= set(ROWS), sorted(set(ROWS) - found)


def test_rows_are_read_from_names() -> None:
    assert rows_of("07_") == {7} and rows_of("36_and_37_") == {36, 37} and rows_of("04_05_06_") == {4, 5, 6}
    assert rows_of("14_to_16_") == {14, 15, 16}

"""Scans that came twice are named with the case that had them first."""

from __future__ import annotations

import pytest

from lungseg.same_scans import same_scans


@pytest.mark.parametrize(
    ("hashes", "found"),
    [
        ({}, []),
        ({"a": "1", "b": "2"}, []),
        ({"b": "1", "a": "1"}, [("b", "a")]),  # by name, whatever the order
        ({"a": "1", "b": "2", "c": "1", "d": "1"}, [("c", "a"), ("d", "a")]),
    ],
)
def test_each_copy_is_named_with_the_first(hashes: dict[str, str], found: list[tuple[str, str]]) -> None:
    problems = same_scans(hashes, {case: f"{case}.nii.gz" for case in hashes})
    assert [(problem.case, problem.what.rsplit(" ", 1)[1]) for problem in problems] == found
    assert all(problem.file == f"{problem.case}.nii.gz" and problem.severity == "warning" for problem in problems)

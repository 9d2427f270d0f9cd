"""Scans that came twice."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import Problem


def same_scans(hashes: Mapping[str, str], files: Mapping[str, str]) -> list[Problem]:
    """A warning for each scan that is, byte for byte, the scan of another case: in two folds it would flatter both.

    Args:
        hashes: of the scans' files, by case.
        files: the same scans' names, by case.
    """
    first: dict[str, str] = {}
    found = []
    for case in sorted(hashes):
        other = first.setdefault(hashes[case], case)
        if other != case:
            what, mend = f"is the very scan of {other}", "Take one of the two out, unless both are meant."
            found.append(Problem("same-scan", what, "", "", mend, files[case], case, severity="warning"))
    return found

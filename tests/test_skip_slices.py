"""How many slices to skip, in a user's words."""

from __future__ import annotations

import pytest

from lungseg.errors import UsageError
from lungseg.skip_slices import check_skip


@pytest.mark.parametrize(
    ("given", "kept"),
    [("30", "30"), ("0", "0"), (" 007 ", "7"), ("12.5mm", "12.5mm"), ("12.50 MM", "12.5mm"), ("0mm", "0mm"),
     ("Auto", "auto")],
)  # fmt: skip
def test_ways_to_say_how_many_slices_to_skip(given: str, kept: str) -> None:
    assert check_skip(given) == kept
    assert check_skip(kept) == kept


@pytest.mark.parametrize(
    "given", ["", "-1", "1.5", "-2mm", "nanmm", "infmm", "mm", "3cm", "none", "12,5mm", "30 slices"]
)
def test_other_ways_are_refused(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_skip(given)
    assert caught.value.problem.code == "bad-skip" and "12.5mm or auto" in str(caught.value)

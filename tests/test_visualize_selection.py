"""Which slices are shown."""

from __future__ import annotations

import numpy as np
import pytest

from lungseg.errors import DataError, UsageError
from lungseg.visualize.selection import choose_slices, evenly


@pytest.mark.parametrize(("count", "n"), [(0, 5), (1, 5), (5, 5), (7, 2), (304, 100), (1000, 3)])
def test_evenly_has_first_and_last_and_no_big_gap(count: int, n: int) -> None:
    shown = evenly(count, n)
    assert len(shown) == min(count, n) and shown == sorted(set(shown))
    if count:
        assert shown[0] == 0 and shown[-1] == count - 1
        gaps = np.diff(shown)
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_evenly_takes_the_middle_for_one() -> None:
    assert evenly(9, 1) == [4]


def test_every_takes_each_nth_whatever_the_limit() -> None:
    assert choose_slices(10, every=3, max_frames=2) == [0, 3, 6, 9]
    assert choose_slices(10, every=100) == [0]


def test_short_scan_is_shown_whole() -> None:
    assert choose_slices(20, max_frames=20) == list(range(20))


@pytest.mark.parametrize("first", [0, 101, 302])
def test_a_nodule_of_two_slices_is_not_jumped_over(first: int) -> None:
    tumour = np.zeros(304, bool)
    tumour[first : first + 2] = True
    shown = choose_slices(304, max_frames=30, tumour=tumour)
    assert {first, first + 1} <= set(shown)
    assert len(shown) == len(set(shown)) == 30 and shown == sorted(shown)


def test_a_long_tumour_takes_at_most_half() -> None:
    tumour = np.arange(304) >= 100
    shown = np.array(choose_slices(304, max_frames=40, tumour=tumour))
    assert len(shown) == 40 and tumour[shown].sum() == 20


@pytest.mark.parametrize("everywhere", [False, True])
def test_never_more_than_asked_for(everywhere: bool) -> None:
    for n in (1, 2, 3, 99, 100):
        assert 1 <= len(choose_slices(304, max_frames=n, tumour=np.full(304, everywhere))) <= n


def test_scan_without_slices_is_refused() -> None:
    with pytest.raises(DataError, match="no slice to show"):
        choose_slices(0)


@pytest.mark.parametrize("options", [{"every": 0}, {"every": -1}, {"max_frames": 0}])
def test_counts_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        choose_slices(10, **options)


def test_too_long_an_animation_is_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="Take --every 3 or more") as caught:
        choose_slices(2500, every=1)
    assert "2500 frames" in str(caught.value)
    assert len(choose_slices(2500, every=3)) <= 1000

"""Which lesions match: by hand, and against a slow second implementation of the rule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from lungseg.lesions import LEAST_OVERLAP, SIZES_ML, Lesion, detection, detection_by_size, match_lesions

from .masks import boxes, random_pair

MM = (10.0, 10.0, 10.0)  # a voxel is 1 ml
SHAPE = (20, 6, 6)


def row(start: int, stop: int) -> tuple[tuple[int, int], ...]:
    return ((start, stop), (0, 1), (2, 3))


def outcomes(truth: np.ndarray, found: np.ndarray) -> list[tuple[str, float, str]]:
    return [(lesion.kind, lesion.volume_ml, lesion.outcome) for lesion in match_lesions(truth, found, MM)]


def test_by_hand() -> None:
    truth = boxes(SHAPE, row(0, 4), row(6, 8), row(14, 20))
    found = boxes(SHAPE, row(1, 5), row(10, 12))
    assert outcomes(truth, found) == [
        ("true", 4.0, "matched"), ("true", 2.0, "missed"), ("true", 6.0, "missed"),
        ("predicted", 4.0, "matched"), ("predicted", 2.0, "false"),
    ]  # fmt: skip
    (first, *_) = match_lesions(truth, found, MM)
    assert first.overlap == pytest.approx(3 / 5) and first.slices == (2, 2)


def test_an_overlap_of_a_tenth_is_enough_and_less_is_not() -> None:
    truth = boxes(SHAPE, row(0, 1))
    assert outcomes(truth, boxes(SHAPE, row(0, 10)))[0][2] == "matched"
    assert outcomes(truth, boxes(SHAPE, row(0, 11))) == [("true", 1.0, "missed"), ("predicted", 11.0, "false")]


def test_a_mask_of_everything_finds_nothing() -> None:
    truth = boxes(SHAPE, row(0, 4), row(6, 8))
    assert [lesion[2] for lesion in outcomes(truth, np.ones(SHAPE, bool))] == ["missed", "missed", "false"]


def test_of_two_halves_one_matches_and_the_other_is_extra() -> None:
    truth = boxes(SHAPE, row(0, 9))
    assert outcomes(truth, boxes(SHAPE, row(0, 3), row(4, 9))) == [
        ("true", 9.0, "matched"), ("predicted", 3.0, "extra"), ("predicted", 5.0, "matched"),
    ]  # fmt: skip


def test_as_many_pairs_as_can_be_come_before_the_largest_overlap() -> None:
    """The long prediction fits the first lesion best, but nothing else reaches the second one."""
    truth = boxes(SHAPE, row(0, 8), row(9, 12))
    result = outcomes(truth, boxes(SHAPE, row(0, 1), row(3, 12)))
    assert [outcome for _, _, outcome in result] == ["matched"] * 4


def test_voxels_that_share_a_corner_are_one_lesion() -> None:
    mask = boxes((4, 4, 4), ((0, 1), (0, 1), (0, 1)), ((1, 2), (1, 2), (1, 2)))
    assert [lesion.volume_ml for lesion in match_lesions(mask, np.zeros_like(mask), MM)] == [2.0]


@pytest.mark.parametrize(("true", "found"), [(False, False), (True, False), (False, True)])
def test_row_42_empty_masks_have_a_rule(true: bool, found: bool) -> None:
    masks = [boxes(SHAPE, row(0, 2)) if shown else np.zeros(SHAPE, bool) for shown in (true, found)]
    wanted = [("true", 2.0, "missed")] * true + [("predicted", 2.0, "false")] * found
    assert outcomes(masks[0], masks[1]) == wanted


def slow(truth: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """Matched, missed and false by trying every way to pair them (SciPy's components, no shared code)."""
    cube = np.ones((3, 3, 3))
    (one, trues), (other, founds) = ndimage.label(truth, cube), ndimage.label(found, cube)
    enough = {}
    for i, j in itertools.product(range(1, trues + 1), range(1, founds + 1)):
        a, b = one == i, other == j
        overlap = (a & b).sum() / (a | b).sum()
        if overlap >= LEAST_OVERLAP:
            enough[i, j] = overlap

    def most(rows: list[int], used: frozenset[int]) -> int:
        if not rows:
            return 0
        here = [j for i, j in enough if i == rows[0] and j not in used]
        return max([most(rows[1:], used), *(1 + most(rows[1:], used | {j}) for j in here)])

    matched = most(list(range(1, trues + 1)), frozenset())
    return matched, trues - matched, founds - len({j for _, j in enough})


def test_random_pairs_equal_the_slow_way() -> None:
    for number in range(120):
        truth, found, spacing_mm = random_pair(number)
        lesions = match_lesions(truth, found, spacing_mm)
        names = [(lesion.kind, lesion.outcome) for lesion in lesions]
        counts = (
            names.count(("true", "matched")),
            names.count(("true", "missed")),
            names.count(("predicted", "false")),
        )
        assert counts == slow(truth, found), number
        assert names.count(("predicted", "matched")) == counts[0]
        voxels = sum(lesion.volume_ml for lesion in lesions if lesion.kind == "true") / np.prod(spacing_mm) * 1000
        assert voxels == pytest.approx(truth.sum())


def lesion(kind: str, volume_ml: float, outcome: str) -> Lesion:
    return Lesion(kind, volume_ml, (0, 0), 0.5, outcome)  # type: ignore[arg-type]


def test_detection_by_hand() -> None:
    kinds = [("true", "matched"), ("true", "missed"), ("predicted", "matched"), ("predicted", "false")]
    found = [lesion(kind, 3.0, outcome) for kind, outcome in [*kinds, ("predicted", "false"), ("predicted", "extra")]]
    result = detection(found, scans=4)
    assert (result["true"], result["found"], result["predicted"], result["false_positives"]) == (2, 1, 4, 2)
    assert result["sensitivity"] == 0.5 and result["precision"] == pytest.approx(1 / 3, abs=1e-6)
    assert result["f1"] == pytest.approx(0.4, abs=1e-6) and result["false_positives_per_scan"] == 0.5


def test_nothing_to_divide_by_is_none() -> None:
    result = detection([], scans=2)
    assert [result[name] for name in ("sensitivity", "precision", "f1")] == [None] * 3
    assert result["false_positives_per_scan"] == 0.0
    assert detection([lesion("true", 1, "missed"), lesion("predicted", 1, "false")], scans=1)["f1"] == 0.0


@pytest.mark.parametrize(
    ("volume_ml", "name"),
    [(0.0, "under 1 ml"), (0.999, "under 1 ml"), (1.0, "1 to 5 ml"), (5.0, "5 to 20 ml"), (20.0, "over 20 ml")],
)
def test_size_classes_begin_at_their_lower_end(volume_ml: float, name: str) -> None:
    assert lesion("true", volume_ml, "missed").size == name


def test_every_lesion_is_in_one_class() -> None:
    scans = [
        [lesion("true", 0.5, "matched"), lesion("predicted", 2.0, "matched")],
        [lesion("predicted", 30, "false")],
        [],
    ]
    result = detection_by_size(scans)
    assert list(result["by_size"]) == list(SIZES_ML)
    assert [result["by_size"][name]["true"] for name in SIZES_ML] == [1, 0, 0, 0]
    assert [result["by_size"][name]["matched"] for name in SIZES_ML] == [0, 1, 0, 0]
    assert result["by_size"]["over 20 ml"]["false_positives_per_scan"] == pytest.approx(1 / 3, abs=1e-6)
    assert result["all"]["true"] == 1 and result["all"]["predicted"] == 2

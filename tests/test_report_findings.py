"""Which tumours two masks hold, what they share, and where they lie."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from lungseg.components import tumours
from lungseg.report.findings import MOST_SPOTS, Findings, Places, find

from .reports import ELSEWHERE, MM, SHAPE, TUMOUR, box, view

VOXEL_ML = float(np.prod(MM)) / 1000


def places(*, whole: bool = True) -> Places:
    seen = view(TUMOUR)
    return Places(seen.image, seen.shown, seen.grid, seen.spacing_mm, whole=whole)


def test_by_hand() -> None:
    found = find(TUMOUR, box((33, 35), (18, 22), (10, 13)) | ELSEWHERE, VOXEL_ML)
    assert (found.true_voxels, found.found_voxels, found.overlap_voxels) == (48, 24 + 108, 24)
    assert (found.n_truth, found.n_found, found.n_false, found.false_voxels) == (1, 2, 1, 108)
    assert found.truth[0].overlap == 0.5 and found.truth[0].slices == (10, 12)
    assert [spot.overlap for spot in found.found] == [0.0, 1.0]
    assert found.largest_false == found.found[0] and found.found[0].box == ((10, 16), (18, 24))


@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, prediction = (ndimage.gaussian_filter(generator.normal(size=(20, 18, 15)), 1.2) > 0.25 for _ in range(2))
    found = find(truth, prediction, 1.0)
    labels, count = ndimage.label(prediction, np.ones((3, 3, 3)))
    touching = set(np.unique(labels[truth & prediction])) - {0}
    assert found.n_found == count and found.n_false == count - len(touching)
    assert found.false_voxels == np.count_nonzero(~np.isin(labels, [0, *touching])[labels > 0])
    assert found.overlap_voxels == np.count_nonzero(truth & prediction)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    areas = np.count_nonzero(labels == largest, axis=(0, 1))
    assert areas[found.found[0].slice] == areas.max()


def test_spots_come_in_the_order_of_the_tumours_of_a_prediction() -> None:
    generator = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(generator.normal(size=(30, 30, 20)), 1.0) > 0.3
    listed = [(part.voxels, part.slices) for part in tumours(mask, MM)][:MOST_SPOTS]
    assert [(spot.voxels, spot.slices) for spot in find(None, mask, 1.0).found] == listed and len(listed) > 5


def test_the_largest_false_positive_is_kept_however_many_spots_are_larger() -> None:
    truth = np.zeros((90, 9, 3), np.uint8)
    truth[::3, :4] = 1
    prediction = truth.copy()
    prediction[0, 8, 0] = 1
    found = find(truth, prediction, 1.0)
    assert len(found.found) == MOST_SPOTS and found.largest_false is not None and found.largest_false.voxels == 1


def test_empty_masks() -> None:
    found = find(box(), box(), VOXEL_ML)
    assert (found.truth, found.found, found.n_truth, found.overlap_voxels) == ((), (), 0, 0)
    assert find(None, TUMOUR, VOXEL_ML).largest_false is not None
    with pytest.raises(ValueError, match="shape"):
        find(np.zeros((2, 2, 2)), TUMOUR, VOXEL_ML)


def test_sides_and_thirds_are_those_of_the_patient() -> None:
    """L-A-S counts to the patient's left and to the head; the lungs reach from slice 7 to slice 20."""
    where = places()
    assert where.of((36.0, 20.0, 8.0)) == "left side, lower third of the lungs"
    assert where.of((12.0, 20.0, 14.0)) == "right side, middle third of the lungs"
    assert where.of((12.0, 20.0, 19.0)) == "right side, upper third of the lungs"
    assert where.of((36.0, 20.0, 3.0)) == "left side, below the lungs"
    assert where.of((36.0, 20.0, 23.0)) == "left side, above the lungs"


def test_of_a_stack_with_gaps_only_the_side_is_told() -> None:
    assert places(whole=False).of((36.0, 20.0, 8.0)) == "left side"


def test_without_lungs_no_place_is_told() -> None:
    seen = view(TUMOUR)
    empty = Places(lambda z: np.zeros_like(seen.image(z)), seen.shown, seen.grid, MM)
    assert empty.of((36.0, 20.0, 8.0)) == ""


def test_survives_json() -> None:
    found = find(TUMOUR, ELSEWHERE, VOXEL_ML, places())
    assert Findings.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    assert found.truth[0].place == "left side, lower third of the lungs" and SHAPE[2] == 24

"""Settings chosen on out-of-fold predictions: counted as predict would count, and never by the patient itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from lungseg.metrics import dice
from lungseg.postprocess import drop_small
from lungseg.probability_map import level_above, levels_of
from lungseg.tuning import SMALLEST_ML, THRESHOLDS, CaseCounts, choose, choose_nested, count

VOXEL_ML = 0.02
SETTINGS = (0.25, 0.5, 0.75)


def patient(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A truth of some lumps, and levels that find them more or less."""
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.normal(size=(25, 20, 12)), 1.5)
    truth = (smooth > np.quantile(smooth, 0.95)).astype(np.uint8)
    noise = ndimage.gaussian_filter(generator.normal(size=truth.shape), 0.8)
    found = np.clip(0.5 + (smooth - np.quantile(smooth, 0.94)) / smooth.std() / 2 + noise / noise.std() / 10, 0, 1)
    return truth, levels_of(found)


@pytest.mark.parametrize("seed", range(4))
def test_every_setting_is_counted_as_its_mask_would_be(seed: int) -> None:
    truth, levels = patient(seed)
    counts = count("p", truth, levels, VOXEL_ML)
    assert counts.dice.shape == (len(THRESHOLDS), len(SMALLEST_ML))
    for row, threshold in enumerate(THRESHOLDS):
        for column, smallest_ml in enumerate(SMALLEST_ML):
            mask = (levels >= level_above(threshold)).astype(np.uint8)
            drop_small(mask, smallest_ml, VOXEL_ML)
            assert counts.found[row, column] == mask.sum()
            assert counts.dice[row, column] == pytest.approx(dice(truth, mask))
    assert len(np.unique(counts.dice)) > 20


def test_where_slices_are_no_neighbours_nothing_is_dropped() -> None:
    truth, levels = patient(0)
    plain = count("p", truth, levels, VOXEL_ML, smallest_ml=(0.0,))
    np.testing.assert_array_equal(plain.dice[:, 0], count("p", truth, levels, VOXEL_ML).dice[:, 0])


def test_a_patient_without_a_finding_or_without_a_tumour() -> None:
    truth, levels = patient(0)
    assert (count("p", truth, np.zeros_like(levels), VOXEL_ML).dice == 0).all()
    assert (count("p", np.zeros_like(truth), np.zeros_like(levels), VOXEL_ML).dice == 1).all()
    assert count("p", np.zeros_like(truth), levels, VOXEL_ML).dice.min() == 0


def counted(case: str, *values: float) -> CaseCounts:
    """A patient with these Dice at SETTINGS."""
    overlap = np.array([[round(500 * value)] for value in values])
    return CaseCounts(case, 500, overlap, np.full((3, 1), 500), SETTINGS, (0.0,))


def test_the_best_mean_over_patients_is_chosen_not_the_pooled_one() -> None:
    large = replace(counted("large", 0.2, 0.5, 0.9), truth=500_000)
    large = replace(large, overlap=large.overlap * 1000, found=large.found * 1000)
    small = [counted("a", 0.8, 0.4, 0.1), counted("b", 0.8, 0.4, 0.1)]
    assert choose([large, *small]).threshold == 0.25
    assert choose([large]).threshold == 0.75


def test_without_a_gain_nothing_is_changed() -> None:
    truth, levels = patient(0)
    nothing = count("p", truth, np.zeros_like(levels), VOXEL_ML)
    assert choose([nothing]).plain
    assert choose([counted("a", 0.5, 0.4, 0.5)]).threshold in (0.25, 0.75)
    assert choose([counted("a", 0.5, 0.5, 0.5)]).threshold == 0.5


def test_a_fold_takes_no_part_in_choosing_its_own_setting() -> None:
    """Planted: fold 0 alone would be best at 0.25, all the others at 0.75, and together 0.25 wins."""
    folds = {
        0: [counted("a", 1.0, 0.0, 0.0), counted("b", 1.0, 0.0, 0.0)],
        1: [counted("c", 0.4, 0.4, 0.5)],
        2: [counted("d", 0.4, 0.4, 0.5)],
    }
    assert choose(case for cases in folds.values() for case in cases).threshold == 0.25
    nested = choose_nested(folds)
    assert {fold: setting.threshold for fold, setting in nested.items()} == {0: 0.75, 1: 0.25, 2: 0.25}
    # Whatever fold 0's patients say, its setting stays.
    for values in ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.3, 0.2, 0.1)):
        assert choose_nested({**folds, 0: [counted("a", *values)]})[0] == nested[0]


def test_one_fold_has_nobody_to_choose_on() -> None:
    assert choose_nested({0: [counted("a", 1.0, 0.0, 0.0)]}) == {}

"""Settings chosen on out-of-fold predictions: counted as predict would count, and never by the patient itself."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from lungseg.calibration import LogitHistogram
from lungseg.metrics import dice
from lungseg.postprocess import PLAIN, PostProcessing, drop_components
from lungseg.probability_map import level_above, levels_of
from lungseg.tuning import (
    SMALLEST_ML,
    SMALLEST_SHARES,
    THRESHOLDS,
    CaseCounts,
    Choice,
    choose,
    choose_all,
    choose_nested,
    choose_on,
    count,
)

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
    assert counts.dice.shape == (len(THRESHOLDS), len(SMALLEST_ML), len(SMALLEST_SHARES))
    axes = (enumerate(THRESHOLDS), enumerate(SMALLEST_ML), enumerate(SMALLEST_SHARES))
    for (row, threshold), (size, smallest_ml), (share, smallest_share) in itertools.product(*axes):
        mask = (levels >= level_above(threshold)).astype(np.uint8)
        drop_components(mask, levels, PostProcessing(threshold, smallest_ml, smallest_share=smallest_share), VOXEL_ML)
        assert counts.found[row, size, share] == mask.sum()
        assert counts.dice[row, size, share] == pytest.approx(dice(truth, mask))
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
    overlap = np.array([[[round(500 * value)]] for value in values])
    return CaseCounts(case, 500, overlap, np.full((3, 1, 1), 500), SETTINGS, (0.0,), (0.0,))


def test_the_best_mean_over_patients_is_chosen_not_the_pooled_one() -> None:
    large = replace(counted("large", 0.2, 0.5, 0.9), truth=500_000)
    large = replace(large, overlap=large.overlap * 1000, found=large.found * 1000)
    small = [counted("a", 0.8, 0.4, 0.1), counted("b", 0.8, 0.4, 0.1)]
    assert choose([large, *small]).threshold == 0.25
    assert choose([large]).threshold == 0.75


def test_a_share_is_chosen_where_it_pays_and_among_equals_the_smallest() -> None:
    overlap, found = np.array([[[300, 300, 300]]]), np.array([[[500, 400, 400]]])
    one = CaseCounts("a", 500, overlap, found, (0.5,), (0.0,), (0.0, 0.2, 0.5))
    assert choose([one]).smallest_share == 0.2 and not choose([one]).plain
    assert choose([replace(one, found=found[..., [1, 1, 0]])]).smallest_share == 0.0


def test_without_a_gain_nothing_is_changed() -> None:
    truth, levels = patient(0)
    nothing = count("p", truth, np.zeros_like(levels), VOXEL_ML)
    assert choose([nothing]).plain
    assert choose([counted("a", 0.5, 0.4, 0.5)]).threshold in (0.25, 0.75)
    assert choose([counted("a", 0.5, 0.5, 0.5)]).threshold == 0.5


def test_a_fold_takes_no_part_in_choosing_its_own_setting() -> None:
    """Planted: fold 0 alone would be best at 0.25, all the others at 0.75, and together 0.25 wins."""
    sure = sure_of(8.0)  # right in three of four pixels, and far too sure of it
    folds = {
        0: Choice((counted("a", 1.0, 0.0, 0.0), counted("b", 1.0, 0.0, 0.0)), (sure, sure)),
        1: Choice((counted("c", 0.4, 0.4, 0.5),), (sure_of(1.0),)),
        2: Choice((counted("d", 0.4, 0.4, 0.5),), (sure_of(1.0),)),
    }
    everyone = choose_on(folds.values())
    assert everyone.threshold == 0.25 and everyone.temperature > 2
    nested = choose_nested(folds)
    assert {fold: setting.threshold for fold, setting in nested.items()} == {0: 0.75, 1: 0.25, 2: 0.25}
    assert nested[0].temperature == pytest.approx(1 / np.log(3), rel=0.02) and nested[1].temperature > 2
    # Whatever fold 0's patients say, its setting stays.
    for values in ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.3, 0.2, 0.1)):
        assert choose_nested({**folds, 0: Choice((counted("a", *values),), (sure_of(3.0),))})[0] == nested[0]


def sure_of(logit: float) -> LogitHistogram:
    """A network that gives this logit or its opposite, and is right in three of four pixels."""
    given = 1 / (1 + np.exp(-np.repeat([logit, -logit], 400)))
    truth = np.tile([1, 1, 1, 0], 200) == np.repeat([1, 0], 400)
    return LogitHistogram.of(given, truth)


def test_one_fold_has_nobody_to_choose_on() -> None:
    assert choose_nested({0: Choice((counted("a", 1.0, 0.0, 0.0),), (sure_of(1.0),))}) == {}


def test_what_did_not_pay_stays_plain() -> None:
    folds = {0: Choice((counted("a", 1.0, 0.0, 0.0),), (sure_of(3.0),))}
    both = choose_all(folds, mask=True, temperature=True)
    assert both == choose_on(folds.values()) and both.threshold == 0.25 and both.temperature > 1
    assert choose_all(folds, mask=False, temperature=True) == replace(PLAIN, temperature=both.temperature)
    assert choose_all(folds, mask=True, temperature=False) == replace(both, temperature=1.0)

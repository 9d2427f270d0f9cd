"""The bootstrap against scipy's, and its rules at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lungseg.errors import DataError, UsageError
from lungseg.statistics import bootstrap_interval, sign_flip_p


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_like_scipy(statistic):
    values = np.random.default_rng(3).beta(5, 2, 40)
    other = stats.bootstrap((values,), statistic, n_resamples=20_000, method="percentile", rng=np.random.default_rng(9))
    found = bootstrap_interval(values, statistic=statistic, draws=20_000)
    assert found == pytest.approx(tuple(other.confidence_interval), abs=0.004)


def test_two_values_by_hand():
    # The mean of two draws is 0 or 1 in a quarter of the cases each, so the 95 % interval reaches both ends ...
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    # ... and half of the draws give 0.5.
    assert bootstrap_interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)


def test_equal_seeds_give_equal_intervals():
    values = np.linspace(0, 1, 30)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_blocks_cover_all_draws():
    calls = []

    def counted(sample, axis):
        calls.append(sample.shape[0])
        return sample.mean(axis=axis)

    bootstrap_interval(np.arange(3000.0), statistic=counted, draws=1000)
    assert sum(calls) == 1000 and len(calls) > 1


def test_no_spread_is_no_interval_but_equal_values_are():
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([0.7]) is None
    assert bootstrap_interval([0.7, 0.7, 0.7]) == pytest.approx((0.7, 0.7))


def test_a_patient_without_a_number_is_not_left_out():
    with pytest.raises(DataError, match="1 of 3"):
        bootstrap_interval([0.5, float("nan"), 0.7])


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"confidence": 1.0}, {"confidence": 95}])
def test_settings_out_of_range(wrong):
    with pytest.raises(UsageError):
        bootstrap_interval([0.1, 0.2], **wrong)


def test_the_permutation_test_equals_scipys() -> None:
    from scipy.stats import permutation_test

    rng = np.random.default_rng(0)
    for size in (3, 8, 13):
        values = rng.normal(0.1, 0.3, size)
        exact = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(values) == pytest.approx(exact.pvalue, abs=1e-12)


def test_beyond_13_patients_signs_are_drawn_and_p_is_never_0() -> None:
    from scipy.stats import permutation_test

    values = np.random.default_rng(1).normal(0.1, 0.3, 16)
    exact = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    drawn = sign_flip_p(values)
    assert drawn == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 10_000) ** 0.5)
    assert sign_flip_p(values) == drawn != sign_flip_p(values, seed=1)
    assert sign_flip_p(np.ones(40)) == 1 / 10_001


def test_under_the_null_hypothesis_p_is_small_as_seldom_as_it_says() -> None:
    rng = np.random.default_rng(2)
    found = np.array([sign_flip_p(rng.normal(size=10)) for _ in range(400)])
    assert np.mean(found <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_no_difference_is_no_evidence() -> None:
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0 == sign_flip_p([0.3])
    assert sign_flip_p([0.2, -0.2]) == 1.0
    for wrong, error in (([], UsageError), ([np.nan], DataError)):
        with pytest.raises(error):
            sign_flip_p(wrong)

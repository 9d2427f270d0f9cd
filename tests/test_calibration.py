"""Calibration from a histogram of logits, against scikit-learn on the pixels themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from lungseg.calibration import (
    LOGIT_BINS,
    RELIABILITY_BINS,
    LogitHistogram,
    apply_temperature,
    brier_score,
    calibration,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    total,
)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logits))


def pixels(seed: int, temperature: float = 1.0, count: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities as float32, and truths drawn so that dividing their logits by ``temperature`` calibrates them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2.0, 3.0, count)
    return sigmoid(logits * temperature).astype(np.float32), rng.random(count) < sigmoid(logits)


def test_brier_score_and_log_loss_equal_scikit_learns() -> None:
    for seed in range(5):
        given, truth = pixels(seed)
        histogram = LogitHistogram.of(given, truth)
        assert brier_score(histogram) == pytest.approx(brier_score_loss(truth, given), abs=1e-5)
        assert log_loss(histogram) == pytest.approx(sklearn_log_loss(truth, given.astype(np.float64)), abs=1e-4)


def test_the_calibration_error_equals_one_worked_out_pixel_by_pixel() -> None:
    for seed, temperature in enumerate((0.5, 1.0, 2.0)):
        given, truth = pixels(seed, temperature)
        edges = np.linspace(0, 1, RELIABILITY_BINS + 1)[1:-1]
        place = np.digitize(given, edges)
        wanted = sum(
            abs(given[place == i].mean(dtype=np.float64) - truth[place == i].mean()) * (place == i).mean()
            for i in range(RELIABILITY_BINS)
        )
        assert expected_calibration_error(LogitHistogram.of(given, truth)) == pytest.approx(wanted, abs=1e-3)


def test_the_reliability_diagram_by_hand() -> None:
    given = np.array([0.01, 0.01, 0.01, 0.01, 0.95, 0.95])
    bins = reliability(LogitHistogram.of(given, np.array([0, 0, 0, 1, 1, 1])), bins=10)
    assert [bin_["pixels"] for bin_ in bins] == [4, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins[0]["tumour"] == 0.25 and bins[0]["probability"] == pytest.approx(0.01, abs=1e-3)
    assert bins[9]["tumour"] == 1.0 and bins[5]["probability"] is None and (bins[9]["low"], bins[9]["high"]) == (0.9, 1)


def test_every_bin_knows_its_probability_to_a_thousandth() -> None:
    given = np.linspace(0.0, 1.0, 20_001)
    middles = sigmoid((np.arange(LOGIT_BINS) + 0.5) / 128 - 16)
    back = np.repeat(middles, LogitHistogram.of(given, given * 0).counts[0])
    assert np.abs(back - given).max() < 1e-3


def test_0_and_1_are_counted() -> None:
    histogram = LogitHistogram.of(np.array([0.0, 1.0, 1e-30], np.float32), np.array([0, 1, 0]))
    assert histogram.counts[0, 0] == 2 and histogram.counts[1, -1] == 1 and histogram.pixels == 3


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7, 2.5])
def test_a_temperature_is_found_again(temperature: float) -> None:
    given, truth = pixels(1, temperature, count=400_000)
    histogram = LogitHistogram.of(given, truth)
    found = fit_temperature(histogram)
    assert found == pytest.approx(temperature, rel=0.03)
    grid = np.geomspace(0.05, 20, 400)
    assert log_loss(histogram, found) <= min(log_loss(histogram, other) for other in grid) + 1e-9


def test_the_histogram_scaled_is_the_histogram_of_scaled_probabilities() -> None:
    given, truth = pixels(2, 3.0)
    before, after = LogitHistogram.of(given, truth), LogitHistogram.of(apply_temperature(given, 3.0), truth)
    assert brier_score(before, 3.0) == pytest.approx(brier_score(after), abs=1e-5)
    assert expected_calibration_error(before, 3.0) == pytest.approx(expected_calibration_error(after), abs=2e-3)
    assert expected_calibration_error(after) < expected_calibration_error(before)


def test_scaling_divides_logits_and_moves_nothing_across_a_half() -> None:
    given, _ = pixels(3)
    scaled = apply_temperature(given, 2.5)
    wanted = sigmoid(np.log(given.astype(np.float64) / (1.0 - given.astype(np.float64))) / 2.5)
    np.testing.assert_allclose(scaled, wanted, atol=1e-6)
    np.testing.assert_array_equal(scaled > 0.5, given > 0.5)
    np.testing.assert_array_equal(apply_temperature(np.array([0.0, 0.5, 1.0]), 7.0), np.float32([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(apply_temperature(given, 1.0), given)


def test_histograms_of_patients_add_up() -> None:
    given, truth = pixels(4)
    parts = [LogitHistogram.of(given[i::3], truth[i::3]) for i in range(3)]
    whole = LogitHistogram.of(given, truth)
    np.testing.assert_array_equal(total(parts).counts, whole.counts)
    np.testing.assert_array_equal((parts[0] + parts[1] + parts[2]).counts, whole.counts)


def test_a_histogram_can_be_written_and_read() -> None:
    histogram = LogitHistogram.of(*pixels(7, count=500))
    back = LogitHistogram.from_list(json.loads(json.dumps(histogram.as_list())))
    np.testing.assert_array_equal(back.counts, histogram.counts)


@pytest.mark.parametrize("truth", [0, 1])
def test_of_one_kind_of_pixel_no_temperature_is_told(truth: int) -> None:
    given, _ = pixels(5)
    assert fit_temperature(LogitHistogram.of(given, np.full(given.shape, truth))) == 1.0


def test_without_a_pixel_there_are_no_numbers() -> None:
    result = calibration(LogitHistogram())
    assert [result[name] for name in ("ece", "brier", "brier_of_prevalence", "log_loss")] == [None] * 4
    assert result["pixels"] == 0 and fit_temperature(total([])) == 1.0


def test_the_constant_that_is_right_on_average_has_the_brier_score_of_prevalence() -> None:
    _, truth = pixels(6)
    constant = LogitHistogram.of(np.full(truth.shape, truth.mean()), truth)
    result = calibration(constant)
    assert result["brier"] == pytest.approx(result["brier_of_prevalence"], abs=1e-5)
    assert result["ece"] < 1e-3


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        LogitHistogram.of(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.7])
def test_a_scaled_histogram_judges_as_the_temperature_does(temperature: float) -> None:
    histogram = LogitHistogram.of(*pixels(5))
    scaled = histogram.scaled(temperature)
    assert scaled.pixels == histogram.pixels and scaled.tumour_pixels == histogram.tumour_pixels
    for measure in (log_loss, brier_score, expected_calibration_error):
        assert measure(scaled) == pytest.approx(measure(histogram, temperature), abs=2e-3)

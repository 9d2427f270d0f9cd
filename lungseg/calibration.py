"""Are probabilities what they say: reliability, expected calibration error, Brier score, and temperature scaling.

Everything is worked out from a histogram of logits, one of pixels with tumour and one of those without, so that memory
does not grow with scans; the histograms of patients are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

# Logits beyond are counted at the end: that is a probability of 1.1e-7, and float32 knows hardly any nearer to 1.
LARGEST_LOGIT: Final = 16.0
LOGIT_BINS: Final = 4096  # 1/128 wide: a probability is known to 0.001 in the middle and far better at both ends
RELIABILITY_BINS: Final = 15  # of equal width, as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017
TEMPERATURES: Final = (0.05, 20.0)  # the range that is searched


@dataclass(frozen=True)
class LogitHistogram:
    """How often each logit was given to pixels without and with tumour.

    Args:
        counts: int64 [2, LOGIT_BINS]; row 0 without tumour, row 1 with; rising logits of -16 to 16.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros((2, LOGIT_BINS), np.int64))

    @classmethod
    def of(cls, probability: np.ndarray, truth: np.ndarray) -> LogitHistogram:
        """Count pixels.

        Args:
            probability: float, 0 to 1, any shape.
            truth: the same shape, tumour where it is not 0.

        Raises:
            ValueError: the shapes differ.
        """
        if probability.shape != truth.shape:
            raise ValueError(f"probability has shape {probability.shape}, the truth {truth.shape}")
        given = np.asarray(probability, np.float64).ravel()
        with np.errstate(divide="ignore"):
            logits = np.log(given) - np.log1p(-given)
        place = np.floor((logits.clip(-LARGEST_LOGIT, LARGEST_LOGIT) + LARGEST_LOGIT) * _BINS_PER_LOGIT)
        place = place.clip(0, LOGIT_BINS - 1).astype(np.int64) + LOGIT_BINS * (truth.ravel() != 0)
        return cls(np.bincount(place, minlength=2 * LOGIT_BINS).reshape(2, LOGIT_BINS))

    def as_list(self) -> list[list[int]]:
        """``[bin, pixels without tumour, pixels with]`` of the bins that are not empty, for JSON."""
        return [[int(i), int(self.counts[0, i]), int(self.counts[1, i])] for i in np.flatnonzero(self.counts.any(0))]

    @classmethod
    def from_list(cls, rows: Iterable[Sequence[int]]) -> LogitHistogram:
        """The inverse of :meth:`as_list`."""
        histogram = cls()
        for place, without, with_tumour in rows:
            histogram.counts[:, place] = without, with_tumour
        return histogram

    def scaled(self, temperature: float) -> LogitHistogram:
        """The same pixels, their logits divided by ``temperature``; each bin moves as a whole, by its middle."""
        place = np.floor((_LOGITS / temperature + LARGEST_LOGIT) * _BINS_PER_LOGIT).clip(0, LOGIT_BINS - 1)
        moved = [np.bincount(place.astype(np.int64), row, LOGIT_BINS) for row in self.counts]
        return LogitHistogram(np.rint(moved).astype(np.int64))

    def __add__(self, other: LogitHistogram) -> LogitHistogram:
        return LogitHistogram(self.counts + other.counts)

    @property
    def pixels(self) -> int:
        return int(self.counts.sum())

    @property
    def tumour_pixels(self) -> int:
        return int(self.counts[1].sum())


_BINS_PER_LOGIT = LOGIT_BINS / (2 * LARGEST_LOGIT)
_LOGITS = (np.arange(LOGIT_BINS) + 0.5) / _BINS_PER_LOGIT - LARGEST_LOGIT  # the middle of each bin


def total(histograms: Sequence[LogitHistogram]) -> LogitHistogram:
    """The histogram of all of them together."""
    return LogitHistogram(sum((histogram.counts for histogram in histograms), LogitHistogram().counts))


def brier_score(histogram: LogitHistogram, temperature: float = 1.0) -> float | None:
    """Mean squared difference of probability and truth (Brier, Monthly Weather Review 1950); 0 is best.

    Returns:
        0.0 to 1.0; None without a pixel.
    """
    if not histogram.pixels:
        return None
    given = _probabilities(temperature)
    without, with_tumour = histogram.counts
    return float((without * given**2 + with_tumour * (1.0 - given) ** 2).sum() / histogram.pixels)


def reliability(
    histogram: LogitHistogram, temperature: float = 1.0, bins: int = RELIABILITY_BINS
) -> list[dict[str, Any]]:
    """The reliability diagram: pixels by the probability they were given, in bins of equal width.

    Returns:
        Of each bin ``low`` and ``high`` end, how many ``pixels`` it has, their mean ``probability`` and the share of
        them that is ``tumour``; both None where there are none.
    """
    given = _probabilities(temperature)
    place = np.minimum((given * bins).astype(int), bins - 1)
    pixels = np.bincount(place, histogram.counts.sum(0), bins)
    mean = np.bincount(place, histogram.counts.sum(0) * given, bins)
    shown = np.bincount(place, histogram.counts[1], bins)
    return [
        {
            "low": round(i / bins, 6),
            "high": round((i + 1) / bins, 6),
            "pixels": int(pixels[i]),
            "probability": round(float(mean[i] / pixels[i]), 6) if pixels[i] else None,
            "tumour": round(float(shown[i] / pixels[i]), 6) if pixels[i] else None,
        }
        for i in range(bins)
    ]


def expected_calibration_error(
    histogram: LogitHistogram, temperature: float = 1.0, bins: int = RELIABILITY_BINS
) -> float | None:
    """Mean distance of probability and share of tumour over the bins, weighted by their pixels (Guo et al. 2017).

    Most pixels are far from any tumour and easily called so: they make this number small whatever the rest is like.

    Returns:
        0.0 to 1.0; None without a pixel.
    """
    if not histogram.pixels:
        return None
    filled = [bin_ for bin_ in reliability(histogram, temperature, bins) if bin_["pixels"]]
    return float(sum(bin_["pixels"] * abs(bin_["probability"] - bin_["tumour"]) for bin_ in filled) / histogram.pixels)


def log_loss(histogram: LogitHistogram, temperature: float = 1.0) -> float | None:
    """Mean negative log likelihood of the truth, nats; None without a pixel."""
    if not histogram.pixels:
        return None
    scaled = _LOGITS / temperature
    without, with_tumour = histogram.counts
    return float((without * np.logaddexp(0.0, scaled) + with_tumour * np.logaddexp(0.0, -scaled)).sum()
                 / histogram.pixels)  # fmt: skip


def fit_temperature(histogram: LogitHistogram) -> float:
    """The temperature that makes the truth likeliest: logits are divided by it (Guo et al. 2017).

    Above 1 the network was too sure of itself, below too timid.  One number can not change which pixels lie above a
    probability of 0.5.  Fit it on patients that the network never saw, and not on those that are then judged.

    Args:
        histogram: of all those patients together.

    Returns:
        Between 0.05 and 20; 1.0 where pixels with or without tumour are missing, so that nothing can be told.
    """
    from scipy.optimize import minimize_scalar

    if not histogram.tumour_pixels or histogram.tumour_pixels == histogram.pixels:
        return 1.0
    low, high = (1.0 / temperature for temperature in reversed(TEMPERATURES))
    # In 1 / T the loss is convex, so the search can not stop in the wrong valley.
    found = minimize_scalar(
        lambda inverse: log_loss(histogram, 1.0 / inverse),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(1.0 / found.x)


def apply_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities as they are after their logits were divided by ``temperature``; 0, 0.5 and 1 stay what they are.

    Args:
        probability: float, 0 to 1, any shape.
        temperature: above 0.

    Returns:
        float32 of the same shape.
    """
    given = np.asarray(probability, np.float64)
    if temperature == 1.0:
        return given.astype(np.float32)
    yes, no = given ** (1.0 / temperature), (1.0 - given) ** (1.0 / temperature)
    return (yes / (yes + no)).astype(np.float32)


def calibration(histogram: LogitHistogram, temperature: float = 1.0) -> dict[str, Any]:
    """All of it as plain values, for ``summary.json``.

    Returns:
        ``temperature``, ``pixels``, ``tumour_pixels``, ``ece``, ``brier``, ``brier_of_prevalence`` (what a constant
        would score that is right on average), ``log_loss`` and the ``bins`` of :func:`reliability`.
    """
    share = histogram.tumour_pixels / histogram.pixels if histogram.pixels else None
    return {
        "temperature": round(temperature, 6),
        "pixels": histogram.pixels,
        "tumour_pixels": histogram.tumour_pixels,
        "ece": _rounded(expected_calibration_error(histogram, temperature)),
        "brier": _rounded(brier_score(histogram, temperature)),
        "brier_of_prevalence": None if share is None else _rounded(share * (1.0 - share)),
        "log_loss": _rounded(log_loss(histogram, temperature)),
        "bins": reliability(histogram, temperature),
    }


def _probabilities(temperature: float) -> np.ndarray:
    """Of the middle of each bin of logits."""
    return 1.0 / (1.0 + np.exp(-_LOGITS / temperature))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)

"""Uncertainty over patients: the percentile bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .errors import DataError, UsageError

DRAWS = 10_000
CONFIDENCE = 0.95
_BLOCK = 1 << 20  # values drawn at a time, so that thousands of patients need no more memory than ten


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    *,
    statistic: Callable[..., np.ndarray] = np.mean,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of a statistic over patients, by the percentile bootstrap.

    Patients are drawn with replacement, as many as there are; the interval lies between percentiles of the statistic
    over all draws (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).  With few patients it
    is too narrow: a handful can not show how far the next one may be off.

    Args:
        values: one number a patient, [n].
        statistic: such as ``np.mean`` or ``np.median``; called with an array [draws, n] and ``axis=1``.
        draws: how many times patients are drawn.
        confidence: share of the draws inside the interval, between 0 and 1.
        seed: equal values and seeds give equal intervals.

    Returns:
        Low and high end; None for fewer than two patients, whose spread is not known.

    Raises:
        DataError: a value is NaN or infinite: a patient that was not scored must not be averaged away.
        UsageError: ``draws`` or ``confidence`` is out of range.

    Example:
        >>> bootstrap_interval([0.5, 0.7, 0.9, 0.6]) is not None, bootstrap_interval([0.5])
        (True, None)
    """
    if draws < 1 or not 0.0 < confidence < 1.0:
        raise UsageError.of(
            "bootstrap",
            "the bootstrap can not be made so",
            expected="draws of 1 or more, confidence between 0 and 1",
            found=f"draws {draws}, confidence {confidence}",
        )
    sample = np.asarray(values, np.float64).ravel()
    unscored = int(np.count_nonzero(~np.isfinite(sample)))
    if unscored:
        raise DataError.of(
            "not-finite",
            "there are patients without a number",
            expected="a finite value for each patient",
            found=f"{unscored} of {sample.size} are not",
            mend="Find out why they were not scored; leaving them out would flatter the result.",
        )
    if sample.size < 2:
        return None
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // sample.size)
    drawn = [
        statistic(sample[generator.integers(0, sample.size, (min(rows, draws - done), sample.size))], axis=1)
        for done in range(0, draws, rows)
    ]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(np.concatenate(drawn), [tail, 1.0 - tail])
    return float(low), float(high)

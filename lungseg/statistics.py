"""Uncertainty over patients: the percentile bootstrap, and a permutation test of paired differences."""

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


def sign_flip_p(differences: Sequence[float] | np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> float:
    """How often a mean difference this large comes about by chance, if the two methods are exchangeable.

    A permutation test of paired differences: the sign of each is flipped at random, and the absolute mean is compared
    (Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", 2005, section 3.1).  Up to 13 patients all signs
    are gone through; beyond, ``draws`` of them, counting the observed one, so that it is never 0.

    Args:
        differences: one a patient, [n].
        draws: how many times signs are drawn.
        seed: equal values and seeds give equal results.

    Returns:
        Above 0, to 1; two-sided.

    Raises:
        DataError: a value is NaN or infinite.
        UsageError: there is no difference, or ``draws`` is below 1.

    Example:
        >>> sign_flip_p([0.1, 0.2, 0.3])
        0.25
    """
    sample = np.asarray(differences, np.float64).ravel()
    if not np.isfinite(sample).all():
        raise DataError.of("not-finite", "a difference is no number", expected="a finite value for each patient")
    if not sample.size or draws < 1:
        raise UsageError.of(
            "permutation",
            "the permutation test can not be made so",
            expected="1 difference or more, draws of 1 or more",
            found=f"{sample.size} differences, draws {draws}",
        )
    least = abs(sample.sum()) * (1.0 - 1e-9)  # a sum of the same numbers in another order may differ in its last digit
    if 2**sample.size <= draws:
        signs = 1 - 2 * ((np.arange(2**sample.size)[:, None] >> np.arange(sample.size)) & 1)
        return float(np.mean(np.abs(signs @ sample) >= least))
    generator = np.random.default_rng(seed)
    rows, reached = max(1, _BLOCK // sample.size), 0
    for done in range(0, draws, rows):
        signs = generator.integers(0, 2, (min(rows, draws - done), sample.size)) * 2 - 1
        reached += int(np.count_nonzero(np.abs(signs @ sample) >= least))
    return (1 + reached) / (1 + draws)

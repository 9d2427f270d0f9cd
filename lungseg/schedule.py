"""The learning rate as a function of how far training is, without any state, so that resuming can not shift it."""

from __future__ import annotations

import math

WARM_UP = 0.25  # share of the run in which the rate rises
# The divisors of torch's OneCycleLR, which follow Smith and Topin, "Super-Convergence" (https://arxiv.org/abs/1708.07120).
FIRST = 1 / 25
LAST = FIRST / 1e4


def rate_factor(schedule: str, progress: float) -> float:
    """What the peak learning rate is multiplied with.

    Args:
        schedule: ``constant``, or ``one_cycle``: up along a half cosine for the first quarter, down along another.
        progress: 0.0 at the first step to 1.0 at the end of the run; more counts as 1.0.
    """
    if schedule == "constant":
        return 1.0
    progress = min(max(progress, 0.0), 1.0)
    if progress < WARM_UP:
        return _half_cosine(FIRST, 1.0, progress / WARM_UP)
    return _half_cosine(1.0, LAST, (progress - WARM_UP) / (1.0 - WARM_UP))


def run_progress(step: int, total_steps: int, elapsed_s: float = 0.0, max_minutes: float = 0.0) -> float:
    """How far a run is: by steps or by time, whichever is further, so that a time limit ends a finished schedule.

    Args:
        step: steps done.
        total_steps: steps of all epochs.
        elapsed_s: time spent training, seconds.
        max_minutes: time limit; 0 is none.
    """
    by_time = elapsed_s / (60.0 * max_minutes) if max_minutes else 0.0
    return max(step / total_steps, by_time)


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0

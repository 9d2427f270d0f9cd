"""A cluster on paper: cases handed out one after the other, workers that die, slow cases, a store that takes so much.

Discrete events, no clock: 100,000 cases take a second or two.  What is simulated is what ``lungseg --cluster`` does:
one case a worker, handed out by one process; a case whose worker dies is handed out again.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

DAY_S = 86_400.0


@dataclass(frozen=True)
class Cluster:
    """What the workers are like.

    Args:
        workers: how many.
        hand_over_s: time that the command and the scheduler take for a case; they do one at a time.
        latency_s: from the end of a case to the start of the worker's next one.
        failures_a_day: chance of a worker to die within a day.
        away_s: until a worker that died is replaced.
        store_s: time that what all share (the store, its network) needs for a case; one at a time, as they end.
    """

    workers: int
    hand_over_s: float
    latency_s: float
    failures_a_day: float = 0.0
    away_s: float = 0.0
    store_s: float = 0.0


@dataclass(frozen=True)
class Course:
    """How it went.

    Args:
        seconds: until the last case was done.
        busy: share of the workers' time that went into cases that were then done.
        tail_s: time at the end in which there was no longer a case for every worker.
        died: workers that died with a case at hand, which was done again.
    """

    seconds: float
    busy: float
    tail_s: float
    died: int


def simulate(case_s: np.ndarray, cluster: Cluster, seed: int = 0) -> Course:
    """Work through all cases.

    Args:
        case_s: time of each case on a worker, seconds.
        cluster: the machines.
        seed: of the failures.
    """
    rng = np.random.default_rng(seed)
    rate = -np.log1p(-cluster.failures_a_day) / DAY_S  # deaths a second of a worker
    waiting, again = iter(case_s.tolist()), []
    # What happens next: when, its number, and the case that ends then; None where a worker is free.
    events: list[tuple[float, int, float | None]] = [(0.0, number, None) for number in range(cluster.workers)]
    number, handed, stored, finished, useful, last_given, died = cluster.workers, 0.0, 0.0, 0.0, 0.0, 0.0, 0
    left = to_give = len(case_s)
    while left:
        at, _, ended = heapq.heappop(events)
        number += 1
        if ended is not None:
            stored = at = max(stored, at) + cluster.store_s if cluster.store_s else at
            finished, useful, left = max(finished, at), useful + ended, left - 1
            heapq.heappush(events, (at, number, None))
        elif to_give:
            time_s = again.pop() if again else next(waiting)
            handed = max(handed, at) + cluster.hand_over_s
            last_given = start = handed + cluster.latency_s
            life = rng.exponential(1 / rate) if rate else np.inf
            if life < time_s:
                died += 1
                again.append(time_s)  # it is known to be lost when the worker is missed, which is soon
                heapq.heappush(events, (start + life + cluster.away_s, number, None))
            else:
                to_give -= 1
                heapq.heappush(events, (start + time_s, number, time_s))
    return Course(finished, useful / (cluster.workers * finished), finished - last_given, died)

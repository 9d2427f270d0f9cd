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
        puts_s: time that the store needs for the results of a case; it takes one case at a time.  0: any number.
    """

    workers: int
    hand_over_s: float
    latency_s: float
    failures_a_day: float = 0.0
    away_s: float = 0.0
    puts_s: float = 0.0


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
    free = [0.0] * cluster.workers  # when each worker is free; a heap
    waiting, again = iter(case_s.tolist()), []
    handed = stored = finished = useful = last_given = 0.0
    died = 0
    left = len(case_s)
    while left:
        time_s = again.pop() if again else next(waiting)
        at = heapq.heappop(free)
        handed = max(handed, at) + cluster.hand_over_s
        start = handed + cluster.latency_s
        last_given = start
        life = rng.exponential(1 / rate) if rate else np.inf
        if life < time_s:
            died += 1
            again.append(time_s)
            heapq.heappush(free, start + life + cluster.away_s)
            continue
        end = start + time_s
        if cluster.puts_s:
            stored = end = max(stored, end) + cluster.puts_s
        useful += time_s
        finished = max(finished, end)
        left -= 1
        heapq.heappush(free, end)
    return Course(finished, useful / (cluster.workers * finished), finished - last_given, died)

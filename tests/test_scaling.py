"""The cluster on paper, against cases that can be worked out by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from scaling_model import Cluster, simulate


def test_equal_cases_on_workers_that_never_fail_keep_all_busy() -> None:
    course = simulate(np.full(100, 2.0), Cluster(10, hand_over_s=0.0, latency_s=0.0))
    assert (course.seconds, course.busy, course.died) == (20.0, 1.0, 0)


def test_one_long_case_at_the_end_leaves_the_others_idle() -> None:
    course = simulate(np.array([*[1.0] * 9, 10.0]), Cluster(10, hand_over_s=0.0, latency_s=0.0))
    assert course.seconds == 10.0 and course.busy == pytest.approx(0.19) and course.tail_s == 10.0


def test_latency_is_paid_by_every_case_and_the_hand_over_by_all_in_turn() -> None:
    slow = simulate(np.full(100, 1.0), Cluster(1, hand_over_s=0.0, latency_s=0.25))
    assert slow.seconds == pytest.approx(125.0) and slow.busy == pytest.approx(0.8)
    # 1000 workers could do 1000 cases a second; 100 a second are handed over.
    limited = simulate(np.full(5000, 1.0), Cluster(1000, hand_over_s=0.01, latency_s=0.0))
    assert 5000 / limited.seconds == pytest.approx(100, rel=0.03) and limited.busy == pytest.approx(0.1, rel=0.03)


def test_a_store_that_takes_ten_cases_a_second_decides() -> None:
    course = simulate(np.full(1000, 1.0), Cluster(100, hand_over_s=0.0, latency_s=0.0, store_s=0.1))
    assert 1000 / course.seconds == pytest.approx(10, rel=0.02)
    # 5 cases a second are under what it takes: a slow case among them does not keep the others waiting.
    slow = simulate(np.array([50.0, *[1.0] * 999]), Cluster(5, hand_over_s=0.0, latency_s=0.0, store_s=0.01))
    assert slow.seconds == pytest.approx(1.01 * 1000 / 5, rel=0.07) and slow.busy > 0.95


def test_workers_that_die_cost_their_case_and_the_time_they_are_away() -> None:
    cases = np.full(2000, 100.0)
    whole = simulate(cases, Cluster(20, hand_over_s=0.0, latency_s=0.0))
    frail = Cluster(20, hand_over_s=0.0, latency_s=0.0, failures_a_day=0.9, away_s=600.0)
    course = simulate(cases, frail)
    # A worker dies every 0.434 days: 2000 cases of 100 s are 2.31 days of work.
    assert course.died == pytest.approx(2.31 / 0.434, abs=8) and course.died > 0
    assert course.seconds > whole.seconds and course.busy < whole.busy
    assert simulate(cases, frail) == course  # the seed decides
    assert simulate(cases, replace(frail, failures_a_day=0.0)) == whole

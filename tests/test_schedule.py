"""The learning rate as a function of progress; torch's own one-cycle schedule is the oracle."""

from __future__ import annotations

import pytest
import torch

from lungseg.schedule import rate_factor, run_progress


@pytest.mark.parametrize("steps", [100, 137])
def test_one_cycle_is_torchs(steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    # torch counts to the last step, this schedule to the end of the run: so one step more here.
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps + 1, pct_start=(0.25 * steps + 1) / (steps + 1), cycle_momentum=False
    )
    for step in range(steps + 1):
        assert rate_factor("one_cycle", step / steps) == pytest.approx(oracle.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        if step < steps:
            oracle.step()


def test_constant_is_constant() -> None:
    assert {rate_factor("constant", progress) for progress in (0.0, 0.3, 1.0, 2.0)} == {1.0}


def test_one_cycle_beyond_the_end_stays_at_its_end() -> None:
    assert rate_factor("one_cycle", 1.5) == rate_factor("one_cycle", 1.0) == pytest.approx(4e-6)
    assert rate_factor("one_cycle", -1.0) == rate_factor("one_cycle", 0.0) == pytest.approx(0.04)
    assert rate_factor("one_cycle", 0.25) == 1.0


@pytest.mark.parametrize(
    ("step", "elapsed_s", "max_minutes", "expected"),
    [(50, 0, 0, 0.5), (50, 1e9, 0, 0.5), (50, 60, 10, 0.5), (50, 540, 10, 0.9), (0, 600, 10, 1.0), (0, 0, 1, 0.0)],
)
def test_progress_is_by_steps_or_time_whichever_is_further(step, elapsed_s, max_minutes, expected) -> None:
    assert run_progress(step, 100, elapsed_s, max_minutes) == pytest.approx(expected)

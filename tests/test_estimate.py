"""The estimate by hand, and that its rates are those that were measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lungseg import estimate as module
from lungseg.config import Recipe
from lungseg.estimate import duration, estimate
from lungseg.probe import NetworkRates
from lungseg.workload import Amount, Workload

RATES = NetworkRates("cpu", train_s=0.5, forward_s=0.1, parameters=1000)
WORK = Workload(Amount(10, 1000, 100_000_000, 10_000_000), Amount(2, 200, 20_000_000, 10_000_000))
RECIPE = Recipe(name="r", epochs=3, batch_size=8, inner_val=0.0)


def step(cost: module.Estimate, word: str) -> module.Step:
    return next(step for step in cost.steps if word in step.what)


def test_the_rates_are_those_that_were_measured() -> None:
    file = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "rates.json"
    found = json.loads(file.read_text())
    rates = (found["verify_s"], found["preprocess_s"], found["score_s"], found["predict_s"])
    assert rates == (module.VERIFY_S, module.PREPROCESS_S, module.SCORE_S, module.PREDICT_S)


def test_time_by_hand() -> None:
    cost = estimate(WORK, RECIPE, RATES, n_folds=5, folds=5, size=256, workers=2)
    assert step(cost, "verify").seconds == pytest.approx(120 * module.VERIFY_S / 2)
    assert step(cost, "train").seconds == pytest.approx(5 * 3 * 100 * 0.5)  # 800 slices in batches of 8
    assert step(cost, "score").seconds == pytest.approx(1000 * 0.1 + 100 * module.SCORE_S)
    assert step(cost, "predict").seconds == pytest.approx(5 * 200 * 0.1 + 20 * module.PREDICT_S)
    assert cost.seconds == pytest.approx(sum(step.seconds for step in cost.steps))
    assert "download" not in str(cost) and "500 ms a step of 8" in str(cost)


def test_what_is_left_to_train_on_how_many_devices_and_for_how_long() -> None:
    options = {"n_folds": 5, "size": 256}
    assert step(estimate(WORK, RECIPE, RATES, folds=5, devices=2, **options), "train").seconds == 3 * 150
    assert step(estimate(WORK, RECIPE, RATES, folds=5, trained=4, **options), "train").seconds == 150
    limited = step(estimate(WORK, RECIPE, RATES, folds=5, max_minutes=1, **options), "train")
    assert limited.seconds == 300 and "limit of time" in limited.note
    few = Workload(Amount(3, 30, 1000, 1000), Amount())
    assert step(estimate(few, RECIPE, RATES, folds=5, **options), "train").seconds == pytest.approx(3 * 3 * 3 * 0.5)


def test_the_line_is_nobodys_to_know_and_disk_holds_the_archive_twice() -> None:
    cost = estimate(Workload(WORK.labelled, WORK.test, 10**10, "much"), RECIPE, RATES, n_folds=5, folds=5, size=256)
    assert cost.steps[0].seconds is None and cost.disk_bytes == 2 * 10**10
    assert "and what the line takes" in str(cost) and "17 minutes at 10 MB a second" in str(cost)
    assert "taken as given: much" in str(cost)


def test_disk_and_memory_grow_with_slices_and_the_gpu_is_told_where_there_is_one() -> None:
    options = {"n_folds": 5, "folds": 5, "size": 256}
    cost = estimate(WORK, RECIPE, RATES, **options)
    assert cost.disk_bytes == 256 * 256 * (3 * 1000 + 2 * 200) + 5 * 32 * 1000 + 10 * (3 << 20)
    assert cost.memory_bytes == (1 << 30) + 800 * 256 * 256 * 3 and cost.gpu_bytes == 0
    on_gpu = NetworkRates("cuda:0", 0.01, 0.001, 1000, gpu_bytes=5 << 30)
    cost = estimate(WORK, RECIPE, on_gpu, **options)
    assert cost.gpu_bytes == (5 << 30) + 800 * 256 * 256 * 3 and "GB of the GPU's" in str(cost)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 seconds"),
        (1, "1 second"),
        (89, "89 seconds"),
        (150, "2 minutes"),
        (5399, "90 minutes"),
        (9000, "2.5 hours"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

"""The sums over batches, against the measures of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lungseg.metrics import dice, soft_dice_pooled
from lungseg.patient_dice import PatientDice

CASES = ("a", "b", "c", "d")


def slices(seed: int = 0, count: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and masks ``[count, 1, 9, 7]`` of patients whose slices lie in any order; c is empty in truth."""
    random = np.random.default_rng(seed)
    case_index = torch.from_numpy(random.integers(0, 3, count))
    mask = torch.from_numpy((random.random((count, 1, 9, 7)) < 0.2).astype(np.float32))
    mask[case_index == 2] = 0
    logits = torch.from_numpy(random.normal(0, 2, mask.shape).astype(np.float32)) + 3 * (mask - 0.5)
    return logits, mask, case_index


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_each_patients_dice_is_that_of_its_stacked_masks(batch: int) -> None:
    logits, mask, case_index = slices()
    metric = PatientDice(CASES)
    for start in range(0, len(mask), batch):
        part = slice(start, start + batch)
        metric.update(logits[part], mask[part], case_index[part])
    expected = {
        case: dice(mask[case_index == place], logits[case_index == place] > 0) for place, case in enumerate(CASES)
    }
    assert metric.per_case() == expected  # to the last bit: they are counts
    assert 0 < expected["a"] < 1 and expected["c"] == 0.0
    assert expected["d"] == 1.0  # no slice at all is empty in both
    assert float(metric.compute()) == pytest.approx(np.mean(list(expected.values())))
    pooled = soft_dice_pooled(mask, logits.double().sigmoid())
    assert metric.soft_dice_pooled() == pytest.approx(pooled, rel=1e-5)


def test_empty_truth_and_empty_prediction() -> None:
    metric = PatientDice(["nothing", "false alarm", "missed"])
    mask = torch.zeros(3, 1, 4, 4)
    mask[2, 0, 0, 0] = 1
    logits = torch.full_like(mask, -9.0)
    logits[1, 0, 1, 1] = 9
    metric.update(logits, mask, torch.arange(3))
    assert metric.per_case() == {"nothing": 1.0, "false alarm": 0.0, "missed": 0.0}
    assert float(metric.compute()) == pytest.approx(1 / 3)


def test_a_logit_of_zero_is_no_tumour() -> None:
    metric = PatientDice(["a"])
    metric.update(torch.tensor([[[[0.0, 1e-6]]]]), torch.ones(1, 1, 1, 2), torch.tensor([0]))
    assert metric.per_case()["a"] == pytest.approx(2 / 3)


def test_counts_do_not_round_where_float32_would() -> None:
    metric = PatientDice(["a"])
    metric.true += 2**24
    metric.predicted += 2**24
    metric.overlap += 2**24
    logits = torch.ones(1, 1, 1, 1)
    metric.update(logits, logits, torch.tensor([0]))
    assert int(metric.true) == 2**24 + 1 and metric.per_case()["a"] == 1.0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_reset_forgets_and_nobody_is_zero() -> None:
    metric = PatientDice(CASES)
    metric.update(*slices())
    metric.reset()
    assert metric.overlap.tolist() == [0, 0, 0, 0] and metric.soft.tolist() == [0, 0, 0]
    assert float(PatientDice([]).compute()) == 0.0

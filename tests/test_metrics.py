"""Measures against hand values and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from lungseg.errors import DataError
from lungseg.metrics import dice, soft_dice_pooled
from lungseg.patient_dice import PatientDice


def random_slices(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """20 slices of 4 patients; patient 2 has no tumour."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(20, 1, 8, 8, generator=generator)
    mask = (logits + torch.randn(20, 1, 8, 8, generator=generator) > 1).float()
    case = torch.randint(0, 4, (20,), generator=generator)
    mask[case == 2] = 0
    return logits, mask, case


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ([1, 1, 0, 0], [0, 1, 1, 0], 0.5),
        ([1, 1], [1, 1], 1.0),
        ([0, 0], [0, 0], 1.0),
        ([1, 0], [0, 0], 0.0),
        ([0, 0], [0, 1], 0.0),
        ([], [], 1.0),
    ],
)
def test_dice_by_hand(truth: list[int], prediction: list[int], expected: float) -> None:
    assert dice(np.array(truth, np.uint8), np.array(prediction, bool)) == expected
    assert dice(torch.tensor(truth), torch.tensor(prediction)) == expected


def test_dice_is_the_f1_of_pixels() -> None:
    random = np.random.default_rng(0)
    truth, prediction = random.random((2, 9, 11, 5)) > 0.7
    assert dice(truth, prediction) == pytest.approx(f1_score(truth.ravel(), prediction.ravel()))


def test_dice_names_the_shapes() -> None:
    with pytest.raises(DataError, match=r"\(2, 3\).*\(3, 2\)"):
        dice(np.zeros((2, 3)), np.zeros((3, 2)))


def test_soft_dice_pooled() -> None:
    assert soft_dice_pooled([1, 0], [0.8, 0.2]) == pytest.approx(2 * 0.8 / (1 + 1))
    assert soft_dice_pooled([0, 0], [0.0, 0.0]) == 1.0


@pytest.mark.parametrize("batch", [1, 7, 20])
def test_patient_dice_is_dice_of_each_stack(batch: int) -> None:
    logits, mask, case = random_slices()
    metric = PatientDice(["a", "b", "c", "d"])
    for start in range(0, 20, batch):
        part = slice(start, start + batch)
        metric.update(logits[part], mask[part], case[part])
    expected = {name: dice(mask[case == i], logits[case == i] > 0) for i, name in enumerate("abcd")}
    assert metric.per_case() == pytest.approx(expected)
    assert metric.compute().item() == pytest.approx(np.mean(list(expected.values())))
    assert metric.soft_dice_pooled() == pytest.approx(soft_dice_pooled(mask, logits.sigmoid()), rel=1e-5)


def test_a_patient_without_tumour_or_finding_counts_as_one() -> None:
    metric = PatientDice(["empty", "missed"])
    mask = torch.zeros(2, 1, 4, 4)
    mask[1, 0, 0, 0] = 1
    metric.update(torch.full((2, 1, 4, 4), -1.0), mask, torch.tensor([0, 1]))
    assert metric.per_case() == {"empty": 1.0, "missed": 0.0}
    assert metric.compute().item() == 0.5
    metric.reset()
    assert metric.per_case() == {"empty": 1.0, "missed": 1.0}  # nothing seen: nothing to find, nothing found


def test_the_threshold_is_on_the_probability() -> None:
    """p = 0.55 is tumour; the published recipe compares the logit with 0.5, which is p > 0.62."""
    metric = PatientDice(["a"])
    metric.update(torch.full((1, 1, 2, 2), 0.2), torch.ones(1, 1, 2, 2), torch.tensor([0]))
    assert metric.compute().item() == 1.0

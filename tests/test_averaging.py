"""The mean of the weights, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lungseg.averaging import Averaged


def test_the_mean_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    averaged, expected = Averaged(net, keep=0.5), 0.0
    for step, value in enumerate((1.0, 3.0, -2.0), start=1):
        net.weight.data.fill_(value)
        averaged.update(net, step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * value
        assert averaged.net.weight.item() == pytest.approx(expected)  # type: ignore[operator,union-attr]
        assert net.weight.item() == value


def test_statistics_are_averaged_and_counters_copied() -> None:
    net = nn.BatchNorm2d(2)
    averaged = Averaged(net, keep=0.99)
    net(torch.randn(4, 2, 3, 3) + 5.0)
    averaged.update(net, step=10_000)
    assert torch.allclose(averaged.net.running_mean, 0.01 * net.running_mean)  # type: ignore[arg-type,operator]
    assert averaged.net.num_batches_tracked == net.num_batches_tracked == 1


def test_the_copy_is_not_trained() -> None:
    averaged = Averaged(nn.Conv2d(1, 1, 3), keep=0.9)
    assert not any(parameter.requires_grad for parameter in averaged.parameters())

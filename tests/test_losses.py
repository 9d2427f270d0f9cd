"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lungseg.errors import UsageError
from lungseg.losses import LOSSES, SMOOTH, bce, dice_bce, loss_named, over_levels, soft_dice


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@pytest.fixture
def two_slices() -> tuple[torch.Tensor, torch.Tensor]:
    """Slice 0: p = 0.8 on two pixels of which one is tumour, 0.2 elsewhere; slice 1 without tumour, p = 0.2."""
    logits = torch.full((2, 1, 2, 2), logit(0.2))
    logits[0, 0, 0] = logit(0.8)
    mask = torch.zeros(2, 1, 2, 2)
    mask[0, 0, 0, 0] = 1
    return logits, mask


def test_bce_by_hand(two_slices: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected = -(7 * math.log(0.8) + math.log(0.2)) / 8  # one pixel of eight is wrong
    assert bce(*two_slices).item() == pytest.approx(expected, abs=1e-6)


def test_dice_by_hand(two_slices: tuple[torch.Tensor, torch.Tensor]) -> None:
    # p of slice 0: .8 .8 .2 .2 (sum 2.0, overlap .8); slice 1: sum .8, overlap 0
    batch = 1 - (2 * 0.8 + SMOOTH) / (2.8 + 1 + SMOOTH)
    sample = 1 - ((2 * 0.8 + SMOOTH) / (2.0 + 1 + SMOOTH) + SMOOTH / (0.8 + SMOOTH)) / 2
    assert soft_dice(*two_slices).item() == pytest.approx(batch, abs=1e-6)
    assert soft_dice(*two_slices, per="sample").item() == pytest.approx(sample, abs=1e-6)
    assert dice_bce(*two_slices).item() == pytest.approx(batch + bce(*two_slices).item(), abs=1e-6)


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_dice_of_empty_and_of_perfect_is_zero(per: str) -> None:
    empty = torch.zeros(2, 1, 8, 8)
    logits = torch.full_like(empty, -100.0, requires_grad=True)
    loss = soft_dice(logits, empty, per=per)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
    assert soft_dice(200 * mask - 100, mask, per=per).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_float32_under_autocast(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 1, 64, 64, generator=generator).bfloat16()
    mask = (torch.rand(4, 1, 64, 64, generator=generator) > 0.9).float()
    expected = LOSSES[name](logits.double().float(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LOSSES[name](logits, mask)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_descent_finds_the_mask(name: str) -> None:
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 2:4, 1:4] = 1
    logits = torch.zeros_like(mask, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        LOSSES[name](logits, mask).backward()
        optimizer.step()
    assert torch.equal(logits > 0, mask > 0)


def test_unknown_loss() -> None:
    with pytest.raises(UsageError, match=r"bce or dice or dice_bce.*focal"):
        loss_named("focal")


def test_levels_are_weighted_by_halves_against_shares_of_tumour() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 0, :2] = 1  # half of the first square of 2 x 2, an eighth of the whole
    levels = [torch.zeros(1, 1, 4, 4), torch.full((1, 1, 2, 2), logit(0.5)), torch.full((1, 1, 1, 1), logit(0.8))]
    by_hand = math.log(2) + math.log(2) / 2 - (math.log(0.8) / 8 + math.log(0.2) * 7 / 8) / 4
    assert over_levels(bce, levels, mask).item() == pytest.approx(by_hand / 1.75, abs=1e-6)
    assert over_levels(bce, levels[:1], mask).item() == bce(levels[0], mask).item()


def test_levels_of_a_size_that_does_not_divide() -> None:
    mask = torch.ones(1, 1, 3, 5)
    levels = [torch.zeros(1, 1, 3, 5), torch.zeros(1, 1, 2, 3)]  # what lies outside counts as no tumour
    assert over_levels(bce, levels, mask).item() == pytest.approx(math.log(2), abs=1e-6)

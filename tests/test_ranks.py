"""What a process takes of a batch, and sums where there is one process only; with several, see test_several_ranks."""

from __future__ import annotations

import pytest
import torch

from lungseg.ranks import Share, from_first, mean_over_ranks, own_share, shares, sum_over_ranks


def test_one_process_takes_all_and_sums_nothing() -> None:
    values = torch.tensor([1.0, 4.0], requires_grad=True)
    assert own_share() == Share(0, 1)
    assert sum_over_ranks(values) is values
    assert mean_over_ranks(values).item() == 2.5
    assert from_first(3.5) == 3.5


def test_shares_of_ten_draws_by_hand() -> None:
    draws = torch.arange(10)
    assert [part.tolist() for part in shares(draws, 4, Share(0, 3))] == [[0, 3], [4, 7], [8]]
    assert [part.tolist() for part in shares(draws, 4, Share(1, 3))] == [[1], [5], [9]]
    assert [part.tolist() for part in shares(draws, 4, Share(2, 3))] == [[2], [6], []]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_counts_add_up(size: int) -> None:
    assert [sum(Share(rank, size).count(total) for rank in range(size)) for total in range(9)] == list(range(9))

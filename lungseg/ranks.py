"""Sums over all processes of a run, and what each of them takes of a batch.

A run on several devices is one process a device; each has a number, its rank, from 0.  Where there is one process only,
every function here gives back what it was given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Share(NamedTuple):
    """Which part of each batch a process takes: places ``rank``, ``rank + size``, ``rank + 2 size`` and so on."""

    rank: int = 0
    size: int = 1

    def count(self, total: int) -> int:
        """How many of ``total`` samples that is."""
        return len(range(self.rank, total, self.size))


def own_share() -> Share:
    """The share of this process; all, where there are no others."""
    if dist.is_available() and dist.is_initialized():
        return Share(dist.get_rank(), dist.get_world_size())
    return Share()


def shares(draws: Tensor, batch_size: int, share: Share) -> list[Tensor]:
    """What one process takes of an epoch's batches.

    Args:
        draws: samples of the epoch in order, ``int64 [N]``, the same in every process.
        batch_size: samples a batch, all processes together; the last batch may have fewer.
        share: of this process.

    Returns:
        One tensor a batch, ``int64 [0 to ceil(batch_size / share.size)]``.  There are as many in every process, so one
        may be empty.
    """
    return [batch[share.rank :: share.size] for batch in draws.split(batch_size)]


class _Sum(torch.autograd.Function):
    """The sum over all ranks.

    Every rank works the same loss out of the sums, and the gradients of all ranks are averaged afterwards
    (``DistributedDataParallel``).  The gradient of a rank's own part therefore counts as often as there are ranks, and
    the average is the gradient of the loss over the whole batch, however unevenly the batch is shared.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * dist.get_world_size()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of every process' ``values``, for a loss that is a function of such sums (see :class:`_Sum`).

    Args:
        values: float, of the same shape in every process.
    """
    return values if own_share().size == 1 else _Sum.apply(values)


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of all values of all processes, ``[]``; a process may have none."""
    if own_share().size == 1:
        return values.mean()
    count = torch.full((), float(values.numel()), dtype=values.dtype, device=values.device)
    total = sum_over_ranks(torch.stack([values.sum(), count]))
    return total[0] / total[1]


def from_first(value: float) -> float:
    """The ``value`` of rank 0, whose clock decides for all; every process has to ask at the same time."""
    if own_share().size == 1:
        return value
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)

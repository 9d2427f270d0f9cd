"""The mean of a network's weights over the last steps: smoother than the weights of any one step.

An exponential moving average (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992; in the form of Tarvainen and
Valpola, "Mean teachers", NeurIPS 2017, https://arxiv.org/abs/1703.01780).
"""

from __future__ import annotations

import copy

import torch
from torch import nn


class Averaged(nn.Module):
    """A copy of a network whose weights follow those of the original slowly.

    Args:
        net: the original; it is not kept.
        keep: share of the mean that a step leaves as it is, 0 to below 1.

    Attributes:
        net: the copy.  Running statistics of batch normalisation are averaged as weights are.
    """

    def __init__(self, net: nn.Module, keep: float) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.keep = keep

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after a step.

        Args:
            net: the original.
            step: steps done.  At first a step counts for more, (1 + step) / (10 + step) is kept at most, so that the
                random weights of the start are soon forgotten.
        """
        keep = min(self.keep, (1.0 + step) / (10.0 + step))
        pairs = list(zip(self.net.state_dict().values(), net.state_dict().values(), strict=True))
        moving = [(own, theirs) for own, theirs in pairs if own.is_floating_point()]
        torch._foreach_lerp_([own for own, _ in moving], [theirs for _, theirs in moving], 1.0 - keep)
        for own, theirs in pairs:
            if not own.is_floating_point():
                own.copy_(theirs)  # a counter

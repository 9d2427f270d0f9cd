"""Batches of slices that lie where the network is: one gather a batch, and nothing that the device has to wait for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .dataset import LungDataset
from .ranks import Share, shares


class ResidentBatches:
    """What a loader of the same dataset, draws and batch size gives, gathered on the device that holds the slices.

    Args:
        dataset: in memory on ``device``, with ``with_index=True``.
        draws: indices of the samples in order, ``int64 [N]`` (see ``sampler``).
        batch_size: samples a batch, all processes together; the last one may have fewer.
        device: where the batches come to lie.
        cases: for validation, the patient's number of each slice, ``int64 [n_slices]``, given in place of the index.
        share: what of each batch this process takes.

    Yields:
        (image, mask, index or case) as in :meth:`LungDataset.batch`.
    """

    def __init__(
        self,
        dataset: LungDataset,
        draws: Tensor,
        batch_size: int,
        device: torch.device,
        cases: Tensor | None = None,
        share: Share = Share(),  # noqa: B008 (a tuple, so safe to share)
    ) -> None:
        self.dataset = dataset
        # One transfer an epoch; one for each batch would make the device wait for it.
        self.batches = shares(draws.to(device), batch_size, share)
        self.cases = None if cases is None else cases.to(device)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for indices in self.batches:
            image, mask, index = self.dataset.batch(indices)
            yield image, mask, index if self.cases is None else self.cases[index]

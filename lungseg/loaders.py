"""The batches of a run: training slices drawn anew each epoch by a function of (seed, epoch), validation in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from .dataset import LungDataset, make_sampler
from .errors import LungsegError
from .memory import available_memory
from .resident import ResidentBatches

BYTES_A_PIXEL = 3  # float16 image and uint8 mask
SHARE_OF_MEMORY = 0.4  # slices are kept in memory where they take less than this of what is free
HANG_S = 300  # a worker that gives no batch for so long is taken as hanging, seconds
MOST_WORKERS = 8


class SliceLoaders(pl.LightningDataModule):
    """Loaders of a run's training and inner validation slices.

    Args:
        training: dataset with ``with_index=True``.
        validation: dataset with ``with_index=True``; None leaves validation out.
        batch_size: slices a step.
        seed: of the order.
        workers: processes that load; 0 loads in this one.
        resident: where the slices, held in memory by both datasets, are kept for the whole run; the batches are then
            gathered there, the very same ones.  None leaves them to a loader.
        limit: at most so many training batches an epoch; 0 is all.
        share, by: which slices are drawn (see :func:`~lungseg.dataset.make_sampler`).
    """

    def __init__(
        self,
        training: LungDataset,
        validation: LungDataset | None,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        limit: int = 0,
        resident: torch.device | None = None,
        share: float = 0.5,
        by: str = "slice",
    ) -> None:
        super().__init__()
        self.training, self.validation = training, validation
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self.share, self.by = share, by
        steps = math.ceil(len(training) / batch_size)
        self.steps_per_epoch = min(steps, limit) if limit else steps
        self.resident = resident
        if resident is not None:
            for dataset in (training, validation):
                if dataset is not None:
                    dataset.hold_on(resident)

    def train_dataloader(self) -> DataLoader | ResidentBatches:
        """Made anew for each epoch.  The epoch is counted in steps, because Lightning's own count is one behind while
        a run is being resumed (Lightning issue 21938), and the draws would not be those of the uninterrupted run."""
        assert self.trainer is not None
        epoch = self.trainer.global_step // self.steps_per_epoch
        self.training.set_epoch(epoch)
        sampler = make_sampler(self.training, seed=self.seed, epoch=epoch, share=self.share, by=self.by)
        if self.resident is not None:
            return ResidentBatches(self.training, sampler.draws(), self.batch_size, self.resident)
        return self._loader(self.training, sampler=sampler, collate_fn=_collate)

    def val_dataloader(self) -> DataLoader | ResidentBatches | list[Any]:
        if self.validation is None:
            return []
        if self.resident is not None:
            order, cases = torch.arange(len(self.validation)), torch.from_numpy(self.validation.case_index)
            return ResidentBatches(self.validation, order, self.batch_size, self.resident, cases)
        return self._loader(self.validation, collate_fn=_ByCase(self.validation.case_index))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Raise here what a worker met, as it was: torch would make a text of it."""
        if isinstance(batch, LungsegError):
            raise batch
        return batch

    def _loader(self, dataset: LungDataset, **options: Any) -> DataLoader:
        return DataLoader(
            _Reporting(dataset),
            batch_size=self.batch_size,
            num_workers=self.workers,
            timeout=HANG_S if self.workers else 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )


class _Reporting(Dataset):
    """A dataset that gives the error in place of the batch, so that it can cross from a worker whole."""

    def __init__(self, dataset: LungDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        try:
            return self.dataset.__getitems__(indices)
        except LungsegError as error:
            return error


def _collate(samples: Any) -> Any:
    return samples if isinstance(samples, LungsegError) else default_collate(samples)


class _ByCase:
    """Batches of (image, mask, which case), for the Dice of each patient."""

    def __init__(self, case_index: np.ndarray) -> None:
        self.case_index = torch.from_numpy(case_index)

    def __call__(self, samples: Any) -> Any:
        if isinstance(samples, LungsegError):
            return samples
        image, mask, index = default_collate(samples)
        return image, mask, self.case_index[index]


def fits_in_memory(n_slices: int, size: int) -> bool:
    """Whether so many slices of ``size`` x ``size`` may be kept in memory."""
    return n_slices * size * size * BYTES_A_PIXEL < SHARE_OF_MEMORY * available_memory()


def fits_on_device(n_slices: int, size: int, device: torch.device) -> bool:
    """Whether so many slices may be kept on a GPU; False for what is none."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return n_slices * size * size * BYTES_A_PIXEL < SHARE_OF_MEMORY * free

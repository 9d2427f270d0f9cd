"""The batches of a run: training slices drawn anew each epoch by a function of (seed, epoch), validation in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .dataset import LungDataset, make_sampler
from .errors import LungsegError
from .memory import available_memory
from .phased import Phased
from .ranks import Share, shares
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
        batch_size: slices a step, all processes together.
        seed: of the order.
        workers: processes that load; 0 loads in this one.
        resident: where the slices, held in memory by both datasets, are kept for the whole run; the batches are then
            gathered there, the very same ones.  None leaves them to a loader.
        limit: at most so many training batches an epoch; 0 is all.
        share, by: which slices are drawn (see :func:`~lungseg.dataset.make_sampler`).
        own: what of each batch this process takes.
        phased: an engine that has to be told before each epoch how far the run is.
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
        own: Share = Share(),  # noqa: B008 (a tuple, so safe to share)
        phased: Phased | None = None,
    ) -> None:
        super().__init__()
        self.training, self.validation, self.phased = training, validation, phased
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self.share, self.by, self.own = share, by, own
        steps = math.ceil(len(training) / batch_size)
        self.steps_per_epoch = min(steps, limit) if limit else steps
        self.resident = resident
        if resident is not None:
            for dataset in (training, validation):
                if dataset is not None:
                    dataset.hold_on(resident)

    @property
    def epoch_slices(self) -> dict[str, int]:
        """Slices of an epoch, by stage."""
        held = {"train": self.training, "val": self.validation}
        return {stage: len(dataset) for stage, dataset in held.items() if dataset is not None}

    def train_dataloader(self) -> DataLoader | ResidentBatches:
        """Made anew for each epoch.  The epoch is counted in steps, because Lightning's own count is one behind while
        a run is being resumed (Lightning issue 21938), and the draws would not be those of the uninterrupted run."""
        assert self.trainer is not None
        epoch = self.trainer.global_step // self.steps_per_epoch
        tell_progress(self.phased, self.trainer)
        self.training.set_epoch(epoch)
        sampler = make_sampler(self.training, seed=self.seed, epoch=epoch, share=self.share, by=self.by)
        return self._loader(self.training, sampler.draws())

    def val_dataloader(self) -> DataLoader | ResidentBatches | list[Any]:
        if self.validation is None:
            return []
        order, cases = torch.arange(len(self.validation)), torch.from_numpy(self.validation.case_index)
        return self._loader(self.validation, order, cases)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Raise here what a worker met, as it was: torch would make a text of it."""
        if isinstance(batch, LungsegError):
            raise batch
        return batch

    def _loader(self, dataset: LungDataset, draws: Tensor, cases: Tensor | None = None) -> DataLoader | ResidentBatches:
        if self.resident is not None:
            return ResidentBatches(dataset, draws, self.batch_size, self.resident, cases, self.own)
        return DataLoader(
            _Reporting(dataset, cases),
            batch_sampler=[batch.tolist() for batch in shares(draws, self.batch_size, self.own)],
            collate_fn=_as_it_is,
            num_workers=self.workers,
            timeout=HANG_S if self.workers else 0,
            pin_memory=torch.cuda.is_available(),
        )


def tell_progress(phased: Phased | None, trainer: pl.Trainer) -> None:
    """Tell the engine, if there is one that asks, how far the run will be after the epoch that begins."""
    if phased is not None:
        module: Any = trainer.lightning_module
        phased.at(module.progress_after_epoch)


class _Reporting(Dataset):
    """Whole batches of a dataset; an error in place of the batch, so that it can cross from a worker whole.

    Args:
        dataset: with ``with_index=True``.
        cases: for the Dice of each patient, the patient's number of each slice, given in place of the index.
    """

    def __init__(self, dataset: LungDataset, cases: Tensor | None) -> None:
        self.dataset, self.cases = dataset, cases

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        try:
            image, mask, index = self.dataset.batch(indices)
        except LungsegError as error:
            return error
        return image, mask, index if self.cases is None else self.cases[index]


def _as_it_is(batch: Any) -> Any:
    return batch


def fits_in_memory(n_slices: int, size: int, processes: int = 1) -> bool:
    """Whether so many slices of ``size`` x ``size`` may be kept in memory, by each of so many processes."""
    return processes * n_slices * size * size * BYTES_A_PIXEL < SHARE_OF_MEMORY * available_memory()


def fits_on_device(n_slices: int, size: int, device: torch.device) -> bool:
    """Whether so many slices may be kept on a GPU; False for what is none."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return n_slices * size * size * BYTES_A_PIXEL < SHARE_OF_MEMORY * free

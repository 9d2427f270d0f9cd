"""Batches streamed from shards by LitData: from a disk of this machine or from an object store.

**What an epoch is.**  A stream begins again, newly shuffled, when it is exhausted; so the one with tumour comes round
several times while the other is seen in part, and an epoch has as many slices as with
:class:`~lungseg.loaders.SliceLoaders`.  Which stream a slice comes from is drawn slice by slice, so that the share with
tumour is that of :func:`~lungseg.sampler.sampler_weights`.  (seed, epoch) decides all of it for a number of
processes and of loading workers; nothing else is needed to go on with a run.
"""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from litdata import CombinedStreamingDataset, StreamingDataset
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from .augment import Augment
from .errors import UsageError
from .loaders import HANG_S, tell_progress
from .phased import Phased
from .randomness import SampleRandom
from .ranks import Share
from .shard_stream import Streamed
from .shards import STREAMS, Shards


class TumourStream(IterableDataset):
    """A training epoch without end: slices of both streams, mixed by weight.

    Args:
        slices: of the training cases.
        share: of the slices that show tumour; 0 mixes the streams as they are.
        by: ``slice`` or ``patient``, which gives each patient's tumour the same weight.
        seed, epoch: of the run.
        own: which of several processes this is.
    """

    def __init__(self, slices: Streamed, *, share: float, by: str, seed: int, epoch: int, own: Share) -> None:
        self.slices, self.share, self.by, self.own = slices, share, by, own
        self.random = SampleRandom(seed, epoch, [0, own.rank + 1])

    def sources(self) -> list[tuple[str, tuple[str, ...], float]]:
        """(stream, cases, weight) of what is mixed."""
        shards, cases = self.slices.shards, self.slices.cases
        counts = {kind: shards.count(kind, cases) for kind in STREAMS}
        share = self.share if self.share and all(counts.values()) else counts["tumour"] / sum(counts.values())
        found = [("clear", cases, 1.0 - share)]
        shown = tuple(case for case in cases if shards.count("tumour", (case,)))
        groups = [(case,) for case in shown] if self.by == "patient" else [shown]
        found += [("tumour", group, share / len(groups)) for group in groups if group]
        return [(kind, group, weight) for kind, group, weight in found if counts[kind]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        order, own = self.random.seeds("stream")
        sources = self.sources()
        streams = [
            self.slices.stream(kind, cases, seed=(order + place) % 2**31, part=self.own)
            for place, (kind, cases, _) in enumerate(sources)
        ]
        for stream in streams:
            stream.set_num_workers(workers)
        mixed = CombinedStreamingDataset(
            streams, seed=own * workers + number, weights=[weight for *_, weight in sources], iterate_over_all=False
        )
        count = len(self.slices)
        for rounds, sample in mixed:
            image, mask, place, _ = self.slices.decoded(sample)
            yield image, mask, place + count * rounds


class InOrder(IterableDataset):
    """Validation: every slice once, in the order of the files, a batch of all processes at a time."""

    def __init__(self, slices: Streamed, batch_size: int, own: Share) -> None:
        self.slices, self.batch_size, self.own = slices, batch_size, own

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        cases, size = self.slices.cases, self.slices.shards.manifest.config.size
        streams = [
            self.slices.stream(kind, cases, seed=-1, part=Share(), kind_of=StreamingDataset)
            for kind in STREAMS
            if self.slices.shards.count(kind, cases)
        ]
        samples = itertools.chain.from_iterable(streams)
        while batch := list(itertools.islice(samples, self.batch_size)):
            taken = [self.slices.decoded(sample) for sample in batch[self.own.rank :: self.own.size]]
            if taken:
                image, mask, _, case = together(taken)
                yield image, mask, case
            else:
                yield torch.empty(0, 1, size, size), torch.empty(0, 1, size, size), torch.empty(0, dtype=torch.int64)


class StreamLoaders(pl.LightningDataModule):
    """What :class:`~lungseg.loaders.SliceLoaders` is for slices in files of their own.

    Args:
        shards: where the slices are.
        training, validation: cases; no validation cases leave validation out.
        batch_size: slices a step, all processes together.
        seed: of the order.
        workers: processes that load, for training; 0 loads in this one.
        limit: at most so many training batches an epoch; 0 is all.
        share, by: which slices are drawn (see :class:`TumourStream`).
        augment: in the loading processes; leave it out where the training loop does so on the device.
        own: which of several processes this is.
        phased: an engine that has to be told before each epoch how far the run is.
    """

    def __init__(
        self,
        shards: Shards,
        training: tuple[str, ...],
        validation: tuple[str, ...],
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        limit: int = 0,
        share: float = 0.5,
        by: str = "slice",
        augment: Augment | None = None,
        own: Share = Share(),  # noqa: B008 (a tuple, so safe to share)
        phased: Phased | None = None,
    ) -> None:
        super().__init__()
        self.phased = phased
        self._cache = tempfile.mkdtemp(prefix="lungseg-stream-")
        self.training = Streamed(shards, training, Path(self._cache))
        self.validation = Streamed(shards, validation, Path(self._cache)) if validation else None
        if not len(self.training):
            raise UsageError.of("no-slices", "there are no slices to load", file=shards.address)
        self.batch_size, self.seed, self.workers, self.own = batch_size, seed, workers, own
        self.share, self.by, self.augment = share, by, augment
        steps = math.ceil(len(self.training) / batch_size)
        self.steps_per_epoch = min(steps, limit) if limit else steps

    @property
    def epoch_slices(self) -> dict[str, int]:
        """Slices of an epoch, by stage; every training batch is whole."""
        held = {"train": self.steps_per_epoch * self.batch_size}
        return held if self.validation is None else {**held, "val": len(self.validation)}

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        epoch = self.trainer.global_step // self.steps_per_epoch
        tell_progress(self.phased, self.trainer)
        options: dict[str, Any] = {
            "share": self.share,
            "by": self.by,
            "seed": self.seed,
            "epoch": epoch,
            "own": self.own,
        }
        return DataLoader(
            TumourStream(self.training, **options),
            batch_size=self.own.count(self.batch_size),
            collate_fn=_Augmented(self.augment, self.seed, epoch),
            num_workers=self.workers,
            timeout=HANG_S if self.workers else 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader | list[Any]:
        if self.validation is None:
            return []
        return DataLoader(InOrder(self.validation, self.batch_size, self.own), batch_size=None)

    def teardown(self, stage: str) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)


def together(samples: Any) -> list[Tensor]:
    """Samples as a batch, images and masks as ``float32``: stacked as they are, which is less to move."""
    image, mask, *numbers = default_collate(samples)
    return [image.float(), mask.float(), *numbers]


class _Augmented:
    """Makes a batch of samples, and augments it where the device does not."""

    def __init__(self, augment: Augment | None, seed: int, epoch: int) -> None:
        self.augment, self.seed, self.epoch = augment, seed, epoch

    def __call__(self, samples: Any) -> tuple[Tensor, Tensor, Tensor]:
        image, mask, index = together(samples)
        if self.augment is not None:
            image, mask = self.augment(image, mask, SampleRandom(self.seed, self.epoch, index))
        return image, mask, index

"""The slices of a list of patients as a torch dataset.

(seed, epoch, index) decides a sample, whatever the number of workers or the batch it is in.  An index may exceed the
number of slices: ``index % len(dataset)`` is the slice, and ``sampler`` says what the rest is for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augment import Augment
from .case_record import image_name, mask_name
from .errors import LungsegError, UsageError
from .manifest import Manifest
from .memory import Room
from .neighbours import ALONE, Neighbours, refuse_gaps
from .progress import progress
from .randomness import SampleRandom
from .sampler import TumourSampler, sampler_weights
from .slice_file import read_slice


class _Rooms(threading.local):
    """Where a thread reads a slice's file to."""

    def __init__(self) -> None:
        self.room = Room()


_ROOMS = _Rooms()


class LungDataset(Dataset[tuple[Tensor, ...]]):
    """All slices of some cases: ``dataset[i]`` is (image, mask), both ``float32 [1, size, size]`` without neighbours.

    The image is HU clipped and divided (air -0.3256, see ``config.PreprocessConfig``), the mask is 0 or 1, and all
    zeros for a case without a label.  Slices come case by case in the order of ``cases``, from the feet up.

    Args:
        processed: a folder that ``preprocess`` wrote, or its manifest.
        cases: names of the cases.
        augment: transforms every sample (see ``augment``); leave it out where the training loop does so on the device.
        seed: of the augmentation.
        in_memory: read everything once, now: 3 bytes a pixel (3.1 GB for Task06_Lung).
        check: compare each file with its hash in the manifest whenever it is read.
        labels: refuse cases without a label; False takes them with empty masks.
        with_index: give (image, mask, index) with an ``int64`` scalar, for augmentation outside of the dataset.
        neighbours: slices of the same scan that are shown with each one; the image is then ``[channels, size, size]``.

    Attributes:
        cases: names of the cases, as given.
        case_index: position in ``cases`` of each slice, ``int64 [N]``.
        slice_index: index in the L-A-S scan of each slice, ``int64 [N]``.
        tumour_pixels: tumour pixels of each slice's mask, ``int64 [N]``.

    Raises:
        UsageError: a case is unknown, named twice or has no label, or there are no slices.
        DataError: the manifest is missing or damaged; with ``in_memory`` also a slice (see :func:`read_slice`).
    """

    def __init__(
        self,
        processed: str | Path | Manifest,
        cases: Sequence[str],
        *,
        augment: Augment | None = None,
        seed: int = 0,
        in_memory: bool = False,
        check: bool = True,
        labels: bool = True,
        with_index: bool = False,
        neighbours: Neighbours = ALONE,
    ) -> None:
        self.manifest = processed if isinstance(processed, Manifest) else Manifest.read(processed)
        self.cases = tuple(cases)
        _check_cases(self.manifest, self.cases, labels)
        self.augment = augment
        self.seed = seed
        self.check = check
        self.with_index = with_index
        self.size = self.manifest.config.size
        records = [self.manifest.cases[case] for case in self.cases]
        self.case_index = np.repeat(np.arange(len(records)), [len(record.slices) for record in records])
        self.slice_index = np.array([z for record in records for z in record.slices], np.int64)
        self.tumour_pixels = np.array(
            [n for record in records for n in record.tumour_pixels or [0] * len(record.slices)], np.int64
        )
        if not len(self):
            raise UsageError.of("no-slices", "there are no slices to load", file=self.manifest.root)
        self._shown = _shown_together(self, neighbours) if neighbours.count else None
        # Shared memory, so that persistent workers see a new epoch as well.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._stored: tuple[Tensor, Tensor] | None = self._load() if in_memory else None

    def __len__(self) -> int:
        return len(self.slice_index)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        if index < -len(self):
            raise IndexError(f"index {index} of {len(self)} slices")
        return self.__getitems__([index + len(self) if index < 0 else index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, ...]]:
        """The samples of a batch; torch's loader prefers this to one call a sample."""
        return list(zip(*self.batch(indices), strict=True))

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the augmentation; call it before the loader is iterated."""
        self._epoch.fill_(epoch)

    def hold_on(self, device: torch.device) -> None:
        """Move the slices, which have to be in memory, to where the network is; batches are then made there."""
        assert self._stored is not None
        images, masks = self._stored
        self._stored = images.to(device), masks.to(device)
        self._shown = None if self._shown is None else self._shown.to(device)

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, ...]:
        """Images ``float32 [B, channels, size, size]``, masks ``[B, 1, size, size]``; with ``with_index`` the indices.

        Raises:
            LungsegError: a slice is missing or damaged, or the augmentation fails; the file is named.
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        images, masks = self._gather(index % len(self))
        if self.augment is not None:
            images, masks = self._augmented(self.augment, images, masks, index)
        return (images, masks, index) if self.with_index else (images, masks)

    def image_path(self, index: int) -> Path:
        """File of a sample's image; :func:`mask_path` gives the mask's."""
        index %= len(self)
        return self.manifest.root / self.cases[self.case_index[index]] / image_name(int(self.slice_index[index]))

    def _gather(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and masks of a batch; as they are stored where the augmentation takes them so, else ``float32``."""
        if self._stored is not None:
            stored_images, stored_masks = self._stored
            slices = slices.to(stored_images.device)
            images, masks = stored_images[self._together(slices)].flatten(1, 2), stored_masks[slices]
        else:
            together = self._together(slices)
            channels = together.shape[1]
            middle = slice(channels // 2, None, channels)
            images, masks = self._read(together.numel(), together.flatten().tolist(), middle)
            images, masks = images.view(len(slices), channels, *images.shape[2:]), masks[middle]
        if getattr(self.augment, "takes_stored", False):
            return images, masks
        return images.float(), masks.float()

    def _together(self, slices: Tensor) -> Tensor:
        """The slices that are shown with each one: ``int64 [B]`` to ``[B, channels]``."""
        return slices[:, None] if self._shown is None else self._shown[slices]

    def _load(self) -> tuple[Tensor, Tensor]:
        return self._read(len(self), progress(range(len(self)), what="read slices", unit="slice"))

    def _read(self, count: int, slices: Iterable[int], masked: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images ``float16`` and masks ``uint8``, both ``[count, 1, size, size]``, from their files.

        Masks are read of those of the slices that ``masked`` chooses, and 0 otherwise.
        """
        wanted = np.zeros(count, bool)
        wanted[masked] = True
        images = torch.empty(count, 1, self.size, self.size, dtype=torch.float16)
        masks = torch.zeros(count, 1, self.size, self.size, dtype=torch.uint8)
        planes = zip(images.numpy()[:, 0], masks.numpy()[:, 0], wanted.tolist(), slices, strict=True)
        for image, mask, with_mask, index in planes:
            self._read_into(index, image, mask if with_mask else None)
        return images, masks

    def _read_into(self, index: int, image: np.ndarray, mask: np.ndarray | None) -> None:
        """Read the files of one slice; the mask stays as it is where there is no label."""
        case, z = self.cases[self.case_index[index]], int(self.slice_index[index])
        record = self.manifest.cases[case]
        wanted = [(image_name(z), image)]
        if mask is not None and record.labelled:
            wanted.append((mask_name(z), mask))
        try:
            for name, array in wanted:
                path = f"{self.manifest.root}/{case}/{name}"  # a Path costs more than its file's hash
                digest = record.hashes[name] if self.check else None
                array[...] = read_slice(path, array.dtype.type, self.size, digest, _ROOMS.room)
        except LungsegError as error:
            raise type(error)(replace(error.problem, case=case), error.stage) from error

    def _augmented(self, augment: Augment, images: Tensor, masks: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return augment(images, masks, SampleRandom(self.seed, self.epoch, index))
        except Exception as error:  # a pipeline of the user's own may raise anything
            found = str(error.problem) if isinstance(error, LungsegError) else f"{type(error).__name__}: {error}"
            names = [f"{self.cases[self.case_index[i % len(self)]]}/{self.image_path(i).name}" for i in index.tolist()]
            raise UsageError.of(
                "augment-failed", "the augmentation failed on one of these slices", found=found, file=" ".join(names)
            ) from error


def _shown_together(dataset: LungDataset, neighbours: Neighbours) -> Tensor:
    """Indices of each slice and its neighbours, ``int64 [N, channels]``.

    Raises:
        UsageError: the stacks have gaps, so that nobody knows which slices are neighbours.
    """
    refuse_gaps(neighbours.count, dataset.manifest.slice_sets, dataset.manifest.root)
    found, start = [], 0
    for case in dataset.cases:
        record = dataset.manifest.cases[case]
        found.append(start + neighbours.table(record.slices, record.las_spacing_mm[2]))
        start += len(record.slices)
    return torch.from_numpy(np.concatenate(found))


def make_sampler(
    dataset: LungDataset, *, seed: int, epoch: int, share: float = 0.5, by: str = "slice"
) -> TumourSampler:
    """The sampler of one training epoch, as many draws as there are slices.

    Args:
        dataset: the training slices.
        seed, epoch: of the run.
        share, by: ``tumour_share`` and ``draw_by`` of a recipe (see :func:`sampler_weights`).
    """
    patients = dataset.case_index if by == "patient" else None
    return TumourSampler(sampler_weights(dataset.tumour_pixels, share, patients), seed=seed, epoch=epoch)


def _check_cases(manifest: Manifest, cases: Sequence[str], labels: bool) -> None:
    unknown = [case for case in cases if case not in manifest.cases]
    twice = sorted({case for case in cases if list(cases).count(case) > 1})
    bare = [case for case in cases if labels and case in manifest.cases and not manifest.cases[case].labelled]
    for code, what, found in (
        ("unknown-case", "has no such cases", unknown),
        ("case-twice", "cases are named more than once", twice),
        ("no-label", "these cases have no label to learn from", bare),
    ):
        if found:
            mend = "Name cases that were preprocessed, each once, and for training only labelled ones."
            raise UsageError.of(code, what, found=", ".join(found), file=manifest.root, mend=mend)

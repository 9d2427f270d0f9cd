"""Sampling that evens out slices with and without tumour, for training only.

**Index of a sample.** Sampling with replacement draws a slice several times in an epoch, and each time should bring
another augmentation.  So the index of a sample says both: ``index % n_slices`` is the slice, ``index // n_slices`` how
many times it was drawn before in this epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from .randomness import SampleRandom


def sampler_weights(
    tumour_pixels: np.ndarray | Sequence[int], share: float = 0.5, patients: np.ndarray | Sequence[int] | None = None
) -> np.ndarray:
    """Weight of each slice in sampling with replacement.

    Args:
        tumour_pixels: tumour pixels of each slice, ``[N]``.
        share: of the draws that show tumour, below 1; 0 weighs all slices alike.
        patients: number of each slice's patient, ``int [N]``; where given, each patient's slices with tumour weigh the
            same together, so that a large tumour is not drawn more often for its many slices.

    Returns:
        ``float64 [N]``: 1 without tumour, (slices without) / (slices with) with it at a share of a half; all 1 where
        one kind is missing.
    """
    shows = np.asarray(tumour_pixels) > 0
    n_with = int(shows.sum())
    n_without = shows.size - n_with
    if not share:
        weights = np.ones(shows.size)
    else:
        ratio = n_without / n_with * (share / (1.0 - share)) if n_with and n_without else 1.0
        weights = np.where(shows, ratio, 1.0)
    if patients is not None and n_with:
        each = np.bincount(np.asarray(patients)[shows], minlength=int(np.max(patients)) + 1)
        mean = n_with / np.count_nonzero(each)
        weights[shows] *= mean / each[np.asarray(patients)[shows]]
    return weights


class TumourSampler(WeightedRandomSampler):
    """Draws an epoch's samples by weight, with replacement; the same ones at every pass.

    Args:
        weights: ``float64 [N]``, one a slice.
        seed: of the run.
        epoch: of the run; make a new sampler for the next one.
    """

    def __init__(self, weights: np.ndarray, *, seed: int, epoch: int) -> None:
        super().__init__(weights.tolist(), len(weights), replacement=True, generator=torch.Generator())
        self._seed = SampleRandom(seed, epoch, [0]).seeds("sampler")[0]

    def draws(self) -> Tensor:
        """Indices of the epoch's samples in order, ``int64 [N]``, repeats counted in (see the module)."""
        self.generator.manual_seed(self._seed)
        slices = torch.multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator)
        return number_repeats(slices, len(self.weights))

    def __iter__(self) -> Iterator[int]:
        return iter(self.draws().tolist())


def number_repeats(slices: Tensor, n_slices: int) -> Tensor:
    """Add ``n_slices`` to a slice for every time it came before: ``int64 [M]`` to ``int64 [M]``, all different."""
    order = torch.argsort(slices, stable=True)
    grouped = slices[order]
    place = torch.arange(len(slices))
    starts = torch.searchsorted(grouped, grouped)  # where the run of equal slices begins
    repeats = torch.empty_like(slices)
    repeats[order] = place - starts
    return slices + n_slices * repeats

"""From probabilities to the mask that is shown: threshold, components that are kept, temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .components import bounding_box, label_components
from .errors import UsageError
from .inference import check_threshold


@dataclass(frozen=True)
class PostProcessing:
    """How probabilities become a mask and a statement of how sure it is; the defaults change nothing.

    Args:
        threshold: a voxel is tumour where the network's own probability is above; 0 to below 1.
        smallest_ml: connected components of less volume are dropped, millilitres.
        temperature: the logit of a probability is divided by it before the probability is reported (Guo et al., "On
            Calibration of Modern Neural Networks", ICML 2017); it never changes the mask.
        smallest_share: connected components that weigh less than this share of the scan's heaviest are dropped, 0 to
            1; 1 keeps that one alone.  The weight is the sum of the probabilities of its voxels: how many of them the
            network expects to be tumour.  A low threshold finds the whole of a tumour that the network is not sure of,
            and much else that weighs little.

    Raises:
        UsageError: a number is out of its range.
    """

    threshold: float = 0.5
    smallest_ml: float = 0.0
    temperature: float = 1.0
    smallest_share: float = 0.0

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if not 0.0 <= self.smallest_ml < math.inf:
            what = "the smallest kept component is no volume"
            raise UsageError.of("bad-smallest", what, expected="0 ml or more", found=str(self.smallest_ml))
        if not 0.0 <= self.smallest_share <= 1.0:
            what = "the smallest kept component is no share of the heaviest"
            raise UsageError.of("bad-smallest", what, expected="0 to 1", found=str(self.smallest_share))
        if not 0.0 < self.temperature < math.inf:
            what = "the temperature can not be meant"
            raise UsageError.of("bad-temperature", what, expected="above 0", found=str(self.temperature))

    @property
    def plain(self) -> bool:
        """Whether the mask is that of the threshold 0.5 alone."""
        return (self.threshold, self.smallest_ml, self.smallest_share) == (0.5, 0.0, 0.0)


PLAIN = PostProcessing()


def drop_components(mask: np.ndarray, probability: np.ndarray, settings: PostProcessing, voxel_ml: float) -> None:
    """Set connected components (26 neighbours) that are not kept to 0, in place.

    Args:
        mask: ``uint8 [L, A, S]``, 0 or 1: what is above the threshold.
        probability: ``uint8 [L, A, S]``, in 255ths or as levels of a kept map; what weighs a component.
        settings: which are kept.
        voxel_ml: volume of a voxel, millilitres.
    """
    voxels = smallest_voxels(settings.smallest_ml, voxel_ml)
    box = bounding_box(mask) if voxels > 1 or settings.smallest_share else None
    if box is None:
        return
    labels, count = label_components(mask[box] != 0)
    sums = component_sums(labels, count), component_sums(labels, count, probability[box])
    mask[box] *= kept(*sums, voxels, settings.smallest_share)[labels]


def component_sums(labels: np.ndarray, count: int, values: np.ndarray | None = None) -> np.ndarray:
    """Voxels of each component, or the sum of values over them, ``int64 [count + 1]``; 0 for label 0, which is none.

    Args:
        labels: ``[L, A, S]``, 0 where there is nothing.
        count: the highest label.
        values: ``uint8 [L, A, S]``; of probabilities, the sum is the component's weight.
    """
    sums = np.zeros(count + 1)  # of whole numbers: exact up to 2**53
    for z in range(labels.shape[2]):  # plane by plane, as they lie in memory
        inside = labels[:, :, z] != 0
        weights = None if values is None else values[:, :, z][inside]
        sums += np.bincount(labels[:, :, z][inside], weights=weights, minlength=count + 1)
    return sums.astype(np.int64)


def kept(voxels: np.ndarray, weights: np.ndarray, fewest_voxels: int, share: float) -> np.ndarray:
    """Which components are kept, ``bool [components]``.

    Args:
        voxels, weights: from :func:`component_sums`, without values and of the probabilities.
        fewest_voxels: smallest number of voxels.
        share: smallest weight, as a share of the heaviest component's.
    """
    stay: np.ndarray = (voxels >= fewest_voxels) & (weights >= share * weights.max(initial=0))
    return stay


def smallest_voxels(smallest_ml: float, voxel_ml: float) -> int:
    """Voxels of the smallest component that is kept; volumes of whole voxels are not lost to rounding."""
    return math.ceil(smallest_ml / voxel_ml - 1e-9)


def calibrated(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities in 255ths with the temperature applied.

    Args:
        probability: uint8, any shape, in 255ths.
        temperature: above 0; 1 changes nothing.

    Returns:
        uint8 of the same shape, in 255ths; 0 and 255 stay what they are.
    """
    if temperature == 1.0:
        return probability
    levels = np.arange(1, 255) / 255.0
    table = np.zeros(256, np.uint8)
    table[1:255] = np.rint(255.0 / (1.0 + np.exp(-np.log(levels / (1.0 - levels)) / temperature)))
    table[255] = 255
    return table[probability]

"""From probabilities to the mask that is shown: threshold, smallest kept component, temperature."""

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

    Raises:
        UsageError: a number is out of its range.
    """

    threshold: float = 0.5
    smallest_ml: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if not 0.0 <= self.smallest_ml < math.inf:
            what = "the smallest kept component is no volume"
            raise UsageError.of("bad-smallest", what, expected="0 ml or more", found=str(self.smallest_ml))
        if not 0.0 < self.temperature < math.inf:
            what = "the temperature can not be meant"
            raise UsageError.of("bad-temperature", what, expected="above 0", found=str(self.temperature))

    @property
    def plain(self) -> bool:
        """Whether the mask is that of the threshold 0.5 alone."""
        return self.threshold == 0.5 and self.smallest_ml == 0.0


PLAIN = PostProcessing()


def drop_small(mask: np.ndarray, smallest_ml: float, voxel_ml: float) -> None:
    """Set connected components (26 neighbours) of less than ``smallest_ml`` to 0, in place.

    Args:
        mask: ``uint8 [L, A, S]``, 0 or 1.
        smallest_ml: smallest volume that is kept, millilitres; 0 keeps all.
        voxel_ml: volume of a voxel, millilitres.
    """
    voxels = smallest_voxels(smallest_ml, voxel_ml)
    box = bounding_box(mask) if voxels > 1 else None
    if box is None:
        return
    labels, _ = label_components(mask[box] != 0)
    mask[box] *= np.bincount(labels.ravel("K"))[labels] >= voxels


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

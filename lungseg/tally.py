"""What is counted of a patient while its slices go by, so that none has to be kept: pixels by the logit they got.

Slices, as the network sees them, and not the scan's own grid: there is nothing between two of its pixels that a network
said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .calibration import LogitHistogram, calibration
from .config import PreprocessConfig
from .lungs import lung_region
from .metrics import dice_of_counts

REGION = "the lungs and 20 mm around them, slice by slice"


@dataclass
class SliceTally:
    """Counts over slices; those of several patients add up.

    Args:
        soft: float64 [3], overlap, truth and prediction as sums of probabilities over all pixels, for the published
            recipe's measure.
        histogram: of the logits in the lung region.
        outside: tumour pixels outside that region.
    """

    soft: np.ndarray = field(default_factory=lambda: np.zeros(3))
    histogram: LogitHistogram = field(default_factory=LogitHistogram)
    outside: int = 0

    def add(
        self, image: np.ndarray, mask: np.ndarray, probability: np.ndarray, pixel_mm: float, config: PreprocessConfig
    ) -> None:
        """Count one slice.

        Args:
            image: float16 [size, size], HU divided by ``config.hu_max``.
            mask: uint8 [size, size], the truth.
            probability: float32 [size, size], 0 to 1.
            pixel_mm: side of a pixel.
            config: how the slice was made.
        """
        shown = mask > 0
        tumour = int(np.count_nonzero(shown))
        self.soft += probability[shown].sum(dtype=np.float64), tumour, probability.sum(dtype=np.float64)
        region = lung_region(image.astype(np.float32) * config.hu_max, pixel_mm)
        inside = LogitHistogram.of(probability[region], mask[region])
        self.histogram += inside
        self.outside += tumour - inside.tumour_pixels

    def __add__(self, other: SliceTally) -> SliceTally:
        return SliceTally(self.soft + other.soft, self.histogram + other.histogram, self.outside + other.outside)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"soft": self.soft.tolist(), "logits": self.histogram.as_list(), "outside": self.outside}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SliceTally:
        """The inverse of :meth:`as_dict`."""
        return cls(np.array(values["soft"], float), LogitHistogram.from_list(values["logits"]), int(values["outside"]))

    def calibration(self, temperature: float = 1.0) -> dict[str, Any]:
        """:func:`calibration.calibration`, with its ``region`` and the share of tumour pixels that lie outside it."""
        tumour = self.outside + self.histogram.tumour_pixels
        share = round(self.outside / tumour, 6) if tumour else None
        return {"region": REGION, "tumour_outside_region": share, **calibration(self.histogram, temperature)}

    @property
    def soft_dice_pooled(self) -> float:
        """The published recipe's measure over all slices counted (:func:`metrics.soft_dice_pooled`)."""
        return dice_of_counts(*self.soft.tolist())


def total(tallies: Sequence[SliceTally]) -> SliceTally:
    """Of several patients together."""
    return sum(tallies, SliceTally())

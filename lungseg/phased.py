"""The augmentation of a run that ends otherwise than it began: windows, then whole slices."""

from __future__ import annotations

from torch import Tensor

from .augment import Augment
from .randomness import SampleRandom


class Phased:
    """Windows for most of a run, whole slices at its end.

    A network that only ever saw windows expects a tumour in half of them, and its deepest levels have never seen what
    lies further away; the last epochs show it slices as prediction does.

    Args:
        windows: the engine of most of the run.
        whole: the engine of its end, with the same transform.
        share: how much of the run the end is, above 0 and below 1.

    Attributes:
        ending: whether the end has come; the loaders say so before each epoch (:meth:`at`).
    """

    def __init__(self, windows: Augment, whole: Augment | None, share: float) -> None:
        self.windows, self.whole, self.share, self.ending = windows, whole, share, False
        self.on_device = windows.on_device
        self.takes_stored = getattr(windows, "takes_stored", False)

    def at(self, progress: float) -> None:
        """Choose for an epoch: one that ends in the last ``share`` of the run, so the last one in any case.

        Args:
            progress: how far the run will be after the epoch, 0.0 to 1.0.
        """
        self.ending = progress > 1.0 - self.share + 1e-9

    def __call__(self, image: Tensor, mask: Tensor, generator: SampleRandom) -> tuple[Tensor, Tensor]:
        engine = self.whole if self.ending else self.windows
        return (image, mask) if engine is None else engine(image, mask, generator)

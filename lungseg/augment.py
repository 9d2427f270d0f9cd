"""The random transform of a slice and its mask: one interface, several engines.

An engine is called with a batch and the random numbers of its samples, and gives the batch back transformed, image and
mask in the same way.  The numbers come from (seed, epoch, index) alone (``randomness.SampleRandom``), so a sample is
the same whatever the batch, the worker or the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .config import AugmentConfig
from .errors import UsageError
from .randomness import SampleRandom
from .window import cut, window_starts

ENGINES = ("torch", "imgaug", "none")
REFERENCE_SIZE = 256  # the elastic parameters are pixels of a slice of this size
SliceTransform = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class Augment(Protocol):
    """An augmentation engine.

    Attributes:
        on_device: whether it is quickest on whole batches where the network is (``torch``); the others work a slice at
            a time on the CPU, so the loader's workers should call them.

    An engine that has ``takes_stored = True`` is also given what is stored, ``float16`` images and ``uint8`` masks.
    """

    on_device: bool

    def __call__(self, image: Tensor, mask: Tensor, generator: SampleRandom) -> tuple[Tensor, Tensor]:
        """Transform a batch.

        Args:
            image: ``float32 [B, C, H, W]``, preprocessed (air is ``config.AIR``); one channel without neighbours.
            mask: ``float32 [B, 1, H, W]``, values 0 and 1.
            generator: the random numbers of the B samples.

        Returns:
            New tensors of the same types, and of the same shapes unless the config asks for a window; the mask's values
            are still 0 and 1.
        """
        ...


class SliceBySlice:
    """An engine made of a function of one slice.

    Args:
        transform: called with the image ``float32 [H, W]``, the mask ``uint8 [H, W]`` (0 and 1) and a seed in
            [0, 2^31); returns both transformed, of the same shape.
    """

    on_device = False

    def __init__(self, transform: SliceTransform) -> None:
        self.transform = transform

    def __call__(self, image: Tensor, mask: Tensor, generator: SampleRandom) -> tuple[Tensor, Tensor]:
        if image.shape[1] != 1:
            raise UsageError.of(
                "augment-shape",
                "this augmentation takes a slice at a time, without neighbours",
                expected="image [B, 1, H, W]",
                found=f"image {list(image.shape)}",
                mend="Take the augmentation torch, or leave the neighbours out.",
            )
        new_image, new_mask = torch.empty_like(image), torch.empty_like(mask)
        pixels, labels = image.cpu().numpy(), mask.cpu().numpy().astype(np.uint8)
        for k, seed in enumerate(generator.seeds()):
            # Copies, because a transform may work in place and the dataset's arrays are not its own.
            moved, moved_mask = self.transform(pixels[k, 0].copy(), labels[k, 0].copy(), seed)
            if np.shape(moved) != pixels.shape[2:] or np.shape(moved_mask) != pixels.shape[2:]:
                raise UsageError.of(
                    "augment-shape",
                    "the augmentation changes the shape of a slice",
                    expected=f"image and mask {list(pixels.shape[2:])}",
                    found=f"image {list(np.shape(moved))}, mask {list(np.shape(moved_mask))}",
                )
            new_image[k, 0] = torch.from_numpy(np.ascontiguousarray(moved, np.float32))
            new_mask[k, 0] = torch.from_numpy(np.greater(moved_mask, 0.5).astype(np.float32))
        return new_image, new_mask


class Windowed:
    """An engine that shows a window of what another one makes; ``torch`` cuts its own, which is quicker.

    Args:
        engine: makes whole slices; None leaves them as they are.
        side: of the window, pixels.
    """

    def __init__(self, engine: Augment | None, side: int) -> None:
        self.engine, self.side = engine, side
        self.on_device = engine is None or engine.on_device

    def __call__(self, image: Tensor, mask: Tensor, generator: SampleRandom) -> tuple[Tensor, Tensor]:
        if self.engine is not None:
            image, mask = self.engine(image, mask, generator)
        size = mask.shape[-1]
        if self.side >= size:
            return image, mask
        starts = window_starts(mask, generator, size, self.side)
        shown = cut(image.permute(0, 2, 3, 1), starts, self.side).permute(0, 3, 1, 2).contiguous()
        return shown, cut(mask[:, 0], starts, self.side)[:, None]


def windowed(engine: Augment | None, config: AugmentConfig) -> Augment | None:
    """The engine with the config's window, for engines that make whole slices."""
    return Windowed(engine, config.window) if config.window else engine


def augment_named(name: str, config: AugmentConfig | None = None, *, compiled: bool = False) -> Augment | None:
    """The engine called ``name``: ``torch``, ``imgaug`` or ``none`` (which is None, or only the config's window).

    Args:
        name: one of ``ENGINES``.
        config: ranges of the transform (default: the recipe's).
        compiled: let torch compile it, where it can (``torch``).

    Raises:
        UsageError: there is no such engine, a range can not be meant, or imgaug is not installed.
    """
    config = checked(config or AugmentConfig())
    if name == "none":
        return windowed(None, config)
    if name == "torch":
        from .augment_torch import TorchAugment

        return TorchAugment(config, compiled=compiled)
    if name == "imgaug":
        from .augment_imgaug import imgaug_augment
        from .augment_intensity import ChangedIntensity, changes_intensity

        engine = windowed(imgaug_augment(config), config)
        return ChangedIntensity(engine, config) if engine and changes_intensity(config) else engine
    raise UsageError.of("unknown-augment", "there is no such augmentation", expected=" or ".join(ENGINES), found=name)


def from_albumentations(pipeline: Callable[..., Mapping[str, Any]]) -> SliceBySlice:
    """An engine from an Albumentations pipeline, or from anything that is called in its way.

    Args:
        pipeline: called as ``pipeline(image=..., mask=...)`` with ``float32 [H, W]`` and ``uint8 [H, W]``; returns a
            mapping with the same two keys.  It has to fill with ``config.AIR`` itself.  Where it has
            ``set_random_seed`` (as ``albumentations.Compose``), that is called before every slice; without, the
            pipeline's own randomness decides, and samples can not be made again.
    """
    reseed = getattr(pipeline, "set_random_seed", None)

    def transform(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if reseed is not None:
            reseed(seed)
        moved = pipeline(image=image, mask=mask)
        return np.asarray(moved["image"]), np.asarray(moved["mask"])

    return SliceBySlice(transform)


def checked(config: AugmentConfig) -> AugmentConfig:
    """The config as it is, its ranges checked.

    Raises:
        UsageError: a range is upside down or outside of what the transform can do.
    """
    smoothness_min = 1.0  # pixels; below, the displacement would be white noise that folds the slice
    limits = {
        "scale": (config.scale, 0.1, 10.0),
        "rotation_deg": ((0.0, config.rotation_deg), 0.0, 180.0),
        "translation": ((0.0, config.translation), 0.0, 1.0),
        "elastic_strength": (config.elastic_strength, 0.0, 1000.0),
        "elastic_smoothness": (config.elastic_smoothness, smoothness_min, 128.0),
        "mirror": ((0.0, config.mirror), 0.0, 1.0),
        "window": ((0, config.window), 0, 1 << 16),
        "contrast": (config.contrast, 0.1, 10.0),
        "offset_hu": ((0.0, config.offset_hu), 0.0, 1000.0),
        "noise_hu": ((0.0, config.noise_hu), 0.0, 1000.0),
        "blur": ((0.0, config.blur), 0.0, 10.0),
    }
    for name, ((low, high), least, most) in limits.items():
        if not least <= low <= high <= most:
            raise UsageError.of(
                "augment-range",
                f"the augmentation's {name} can not be meant",
                expected=f"from {least:g} to {most:g}, the smaller one first",
                found=str(getattr(config, name)),
            )
    return config

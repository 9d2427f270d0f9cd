"""The random transform by imgaug 0.4.0, a slice at a time, for the loader's workers.

imgaug is unmaintained.  With NumPy 2 it fails to import for one reason, ``np.sctypes``, which is supplied while it is
imported, here and nowhere else.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from .augment import REFERENCE_SIZE, SliceBySlice, checked
from .config import AIR, AugmentConfig
from .errors import MachineError

if TYPE_CHECKING:
    from imgaug.augmenters import Augmenter

# What np.sctypes held in NumPy 1 (NumPy 2 removed it, numpy.org/doc/stable/numpy_2_0_migration_guide.html).
_SCTYPES = {
    "int": [np.int8, np.int16, np.int32, np.int64],
    "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    "float": [np.float16, np.float32, np.float64, np.longdouble],
    "complex": [np.complex64, np.complex128, np.clongdouble],
    "others": [bool, object, bytes, str, np.void],
}


def import_imgaug() -> ModuleType:
    """Import imgaug with its augmenters; numpy is afterwards as it was.

    Raises:
        MachineError: imgaug is not installed.
    """
    # NumPy 1 has it in its __dict__; NumPy 2 raises from a module-level __getattr__.
    missing = "sctypes" not in vars(np)
    if missing:
        np.sctypes = _SCTYPES  # type: ignore[attr-defined]  # noqa: NPY201
    try:
        import imgaug
        import imgaug.augmentables.segmaps
        import imgaug.augmenters
    except ImportError as cause:
        raise MachineError.of(
            "no-imgaug",
            "imgaug can not be imported",
            found=str(cause),
            mend="Install it with `pip install imgaug==0.4.0`, or take --augment torch.",
        ) from cause
    finally:
        if missing:
            del np.sctypes  # type: ignore[attr-defined]  # noqa: NPY201
    return imgaug


def imgaug_augment(config: AugmentConfig) -> SliceBySlice:
    """The recipe's transform in imgaug: mirroring, zoom, rotation, shift, then elastic displacement.

    Args:
        config: the ranges.

    Raises:
        MachineError: imgaug is not installed.
        UsageError: a range can not be meant.
    """
    return SliceBySlice(ImgaugSlice(checked(config)))


class ImgaugSlice:
    """Transforms one slice (see ``augment.SliceBySlice``)."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        self._imgaug = import_imgaug()
        self._pipelines: dict[int, Augmenter] = {}

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        segmap = self._imgaug.augmentables.segmaps.SegmentationMapsOnImage(mask.astype(np.int32), shape=image.shape)
        if len(image) not in self._pipelines:
            self._pipelines[len(image)] = self._make(len(image) / REFERENCE_SIZE)
        pipeline = self._pipelines[len(image)]
        pipeline.seed_(seed)
        # imgaug turns the fill value into a whole number for OpenCV, so -0.3256 would become 0, which is water.  With
        # air moved to 0 the fill is right.
        moved, moved_mask = pipeline(image=image - np.float32(AIR), segmentation_maps=segmap)
        return moved + np.float32(AIR), moved_mask.get_arr()

    def _make(self, zoom: float) -> Augmenter:
        augmenters, config = self._imgaug.augmenters, self.config
        turn, shift = config.rotation_deg, config.translation
        # A seed for each, or imgaug would draw one from its global generator; seed_ replaces it for every slice.
        affine = augmenters.Affine(
            scale=config.scale,
            rotate=(-turn, turn),
            translate_percent={"x": (-shift, shift), "y": (-shift, shift)},
            seed=0,
        )
        elastic = augmenters.ElasticTransformation(
            alpha=tuple(zoom * strength for strength in config.elastic_strength),
            sigma=tuple(zoom * smoothness for smoothness in config.elastic_smoothness),
            order=1,  # the default, cubic, overshoots at edges
            seed=0,
        )
        mirror = [augmenters.Fliplr(config.mirror, seed=0)] if config.mirror else []
        return augmenters.Sequential([*mirror, affine, elastic], seed=0)

    def __getstate__(self) -> AugmentConfig:
        return self.config  # modules can not be pickled; spawned workers make the pipeline again

    def __setstate__(self, config: AugmentConfig) -> None:
        self.__init__(config)  # type: ignore[misc]

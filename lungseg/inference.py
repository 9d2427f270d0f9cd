"""A trained network on slices, and the way back to the scan's own grid: what ``predict`` and ``evaluate`` share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .checkpoint import FOLDER, load_identified
from .config import PreprocessConfig
from .device import pick_device
from .errors import DataError, IntegrityError, UsageError
from .export import CHECKPOINTS, SUFFIX, load_network
from .forward import Forward, fetched, forward_of
from .geometry import SliceGrid, slice_to_las
from .manifest import settings_from
from .neighbours import ALONE, MOST, MOST_MM, Neighbours
from .unet import UNet
from .views import ZOOMS, mean_probability, zooms_can_be_meant

# Activations of `classic` take about 100 MB a slice of 256 x 256.
SLICES_AT_A_TIME = {"cpu": 4, "mps": 8, "cuda": 32}
NOTHING = 0.49 / 255.0  # a probability that counts as 0 in 255ths, with room for rounding


@dataclass(frozen=True)
class Segmenter:
    """A trained network with all that is needed to use it on other slices.

    Args:
        net: in evaluation mode, on ``device``.
        device: where it runs.
        batch_size: slices at a time.
        config: how slices have to be made for it.
        description: of the model, for records: recipe, fold, checkpoint and its SHA-256; plain values.
        precision: of the forward pass (see ``device.autocast``).
        mirror: predict the mirror image of each slice too, left for right, and take the mean of all probabilities.
        zooms: at which each slice is predicted too (see :mod:`lungseg.views`).
        neighbours: slices that the network is shown together.
    """

    net: UNet
    device: torch.device
    batch_size: int
    config: PreprocessConfig
    description: dict[str, Any]
    precision: str = "auto"
    mirror: bool = False
    neighbours: Neighbours = ALONE
    zooms: tuple[float, ...] = ()

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        checkpoint: str = "best",
        device: str = "auto",
        batch_size: int | None = None,
    ) -> Segmenter:
        """The network of a run, or of weights that were exported.

        Args:
            run: folder of the run, or a ``.safetensors`` file.
            checkpoint: ``best`` or ``last``, of a run.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            batch_size: slices at a time; None chooses by device.

        Raises:
            UsageError: there is no such run, checkpoint or device name.
            IntegrityError: the checkpoint is refused.
            MachineError: this machine has no such device.
        """
        run, target = Path(run), pick_device(device)
        if checkpoint not in CHECKPOINTS:
            raise UsageError.of(
                "unknown-checkpoint", "there is no such checkpoint", expected=" or ".join(CHECKPOINTS), found=checkpoint
            )
        if run.suffix == SUFFIX and not run.is_dir():
            path = run
            net, config, weights = load_network(path, target)
        elif not run.is_dir():
            mend = "Name a folder that `lungseg train` has made."
            raise UsageError.of("no-run", "there is no such run", file=run, mend=mend)
        else:
            path = run / FOLDER / CHECKPOINTS[checkpoint]
            net, config, digest = load_identified(path, device=target)
            weights = {"checkpoint": path.name, "sha256": digest}
        mirror = bool(config["recipe"].get("test_mirror", False))
        zooms, neighbours = _zooms(config["recipe"], path), _neighbours(config["recipe"], net, path)
        description = {
            "recipe": config["recipe"].get("name", ""),
            "fold": config.get("fold"),
            **weights,
            **({"test_mirror": True} if mirror else {}),
            **({"test_zooms": list(zooms)} if zooms else {}),
            **({"neighbours": neighbours.count, "neighbour_mm": neighbours.apart_mm} if neighbours.count else {}),
            "trained_by": config.get("lungseg", ""),
        }
        settings = _settings(config, path)
        size = batch_size or SLICES_AT_A_TIME[target.type]
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(net, target, size, settings, description, mirror=mirror, neighbours=neighbours, zooms=zooms)

    def probabilities(
        self, slices: Iterable[np.ndarray], places: Sequence[int] | None = None, slice_mm: float = 1.0
    ) -> Iterator[np.ndarray]:
        """Probability of tumour, slice by slice, in the order given.

        Args:
            slices: ``float16 [size, size]`` each, as ``slicing.slice_image`` makes them; or with their neighbours
                already, ``[channels, size, size]``.
            places: of the slices in their scan, rising, from which neighbours are found.  Without, a network that
                expects neighbours is shown each slice in their place.
            slice_mm: from one place to the next, millimetres.

        Yields:
            ``float32 [size, size]``, 0 to 1.
        """
        if places is not None and self.neighbours.count:
            slices = self.neighbours.stacks(slices, places, slice_mm)
        rest, ahead = iter(slices), self.device.type == "cuda"
        waiting: deque[Callable[[], np.ndarray]] = deque()
        while batch := list(islice(rest, self.batch_size)):
            image = torch.from_numpy(np.stack(batch)).to(self.device, torch.float32)
            image = image if image.ndim == 4 else image[:, None].expand(-1, self.neighbours.channels, -1, -1)
            with torch.inference_mode():
                found = mean_probability(self._forward, image, mirror=self.mirror, zooms=self.zooms)
            waiting.append(fetched(found[:, 0]))
            if len(waiting) > ahead:  # a GPU works on one batch while the next is made and the last is used
                yield from waiting.popleft()()
        while waiting:
            yield from waiting.popleft()()

    @cached_property
    def _forward(self) -> Forward:
        return forward_of(self.net, self.device, self.precision)


def _zooms(recipe: dict[str, Any], path: Path) -> tuple[float, ...]:
    """What the recipe beside the weights in ``path`` says of zooms."""
    found = recipe.get("test_zooms", ())
    if zooms_can_be_meant(found):
        return tuple(map(float, found))
    raise IntegrityError.of(
        "bad-settings",
        "does not say at which zooms its network is shown a slice",
        expected=ZOOMS,
        found=str(found)[:200],
        file=path,
        mend="Copy it from where it came from again, or train again.",
    )


def _neighbours(recipe: dict[str, Any], net: UNet, path: Path) -> Neighbours:
    """What the recipe beside the weights in ``path`` says of neighbours, which has to fit the network."""
    count, apart_mm = recipe.get("neighbours", 0), recipe.get("neighbour_mm", ALONE.apart_mm)
    if type(count) is int and 0 <= count <= MOST and isinstance(apart_mm, (int, float)) and 0 < apart_mm <= MOST_MM:
        found = Neighbours(count, float(apart_mm))
        if found.channels == net.config.in_channels:
            return found
    raise IntegrityError.of(
        "bad-settings",
        "does not say which slices its network is shown together",
        expected=f"{net.config.in_channels} of them",
        found=f"neighbours {count!r}, {apart_mm!r} mm apart"[:200],
        file=path,
        mend="Copy it from where it came from again, or train again.",
    )


class MaskVolume:
    """The prediction of one scan on its own L-A-S grid, filled slice by slice; what is never filled is no tumour.

    Args:
        las_shape: voxels along left, front, head.
        grid: the step between the scan's own pictures and slices.
        threshold: a voxel is tumour where its probability is above.

    Attributes:
        mask: ``uint8 [L, A, S]``, 0 or 1.
        probability: ``uint8 [L, A, S]``, in 255ths: a quarter of the memory, and finer than any use of it.
    """

    def __init__(self, las_shape: tuple[int, ...], grid: SliceGrid, threshold: float) -> None:
        # Axial planes lie together in memory, as they are written.
        self.mask = np.zeros(las_shape, np.uint8, order="F")
        self.probability = np.zeros(las_shape, np.uint8, order="F")
        self._grid, self._threshold = grid, threshold

    def put(self, z: int, probability: np.ndarray) -> None:
        """Take the network's answer for slice ``z``, once: ``float32 [size, size]``, 0 to 1."""
        highest = float(probability.max())
        if highest < min(NOTHING, self._threshold):
            return  # no pixel in between is higher, so all would be written as 0, which they are
        plane = slice_to_las(self._grid.grow(probability))
        self.mask[:, :, z] = plane > self._threshold
        self.probability[:, :, z] = np.rint(plane * 255.0)


def _settings(config: dict[str, Any], path: Path) -> PreprocessConfig:
    """How slices have to be made, as the config beside the weights in ``path`` says."""
    data = config.get("data")
    try:
        return settings_from(data.get("settings") if isinstance(data, dict) else None, path)
    except DataError as error:
        what = "does not say how slices have to be made for its network"
        mend = "Copy it from where it came from again, or train again."
        raise IntegrityError(replace(error.problem, code="bad-settings", what=what, mend=mend)) from error


def check_threshold(threshold: float) -> float:
    """The threshold as it is.

    Raises:
        UsageError: it is no probability below 1.
    """
    if not 0.0 <= threshold < 1.0:
        raise UsageError.of(
            "bad-threshold", "the threshold is no probability", expected="0 to below 1", found=str(threshold)
        )
    return float(threshold)

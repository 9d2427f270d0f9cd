"""The random transform on whole batches, on the device they are on: zoom, rotation, shift and elastic displacement.

All parts are composed into one sampling position for every pixel, so that the image is interpolated once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .augment import REFERENCE_SIZE, checked
from .augment_cpu import LEAST_EXPONENT, Move, Nodes, move
from .augment_intensity import change_intensity, changes_intensity
from .config import AIR, AugmentConfig
from .errors import UsageError
from .randomness import STEP, DeviceRandom, SampleRandom
from .window import COARSE, cut, window_starts

Random = SampleRandom | DeviceRandom
_STREAMS = ("transform", "elastic", "mirror", "window")  # of random numbers
_STRIDE = 4.0  # distance of the noise nodes, reference pixels; never more than the smallest smoothness
_REACH = 3.0  # the Gaussian is cut at this many standard deviations beyond the edges of the slice


@dataclass(frozen=True)
class Transform:
    """What was drawn for a batch; all ``float32 [B]``.

    Args:
        scale: zoom, above 1 enlarges.
        angle: rotation, radians, clockwise as displayed (rows grow downwards).
        shift_x: shift to the right, share of the side.
        shift_y: shift downwards, share of the side.
        strength: of the elastic displacement (alpha), reference pixels.
        smoothness: its Gaussian's standard deviation (sigma), reference pixels.
    """

    scale: Tensor
    angle: Tensor
    shift_x: Tensor
    shift_y: Tensor
    strength: Tensor
    smoothness: Tensor


class TorchAugment:
    """Batched augmentation (see ``augment.Augment``).

    Where a sample is mirrored, left and right are exchanged first.  The affine part moves what is at p to
    ``centre + scale * R(angle) (p - centre) + shift``.  The elastic part then shows at q what is at
    ``q + strength * (noise * Gaussian)(q)`` with noise uniform in [-1, 1) for each pixel and axis (Simard et al., ICDAR
    2003, https://doi.org/10.1109/ICDAR.2003.1227801), the same order and parameters as in imgaug's
    ``Sequential([Affine, ElasticTransformation])``; imgaug cuts its Gaussian at 1.3 to 1.45 standard deviations, so
    that its displacement is up to 1.5 times larger.

    Args:
        config: the ranges.
        compiled: on an NVIDIA GPU, let torch compile it for batches of the first one's shape: some dozen kernels in
            place of 130, and their number is what it costs there.  Positions may then differ in their last bits.
    """

    on_device = True
    takes_stored = True

    def __init__(self, config: AugmentConfig | None = None, *, compiled: bool = False) -> None:
        self.config = checked(config or AugmentConfig())
        low, high = self.config.elastic_smoothness
        stride = min(_STRIDE, low)
        reach = REFERENCE_SIZE / 2 + _REACH * high
        self._nodes = Nodes(math.ceil(reach / stride), stride, REFERENCE_SIZE)
        self._weight = math.sqrt(stride / (2.0 * math.pi))  # over s: what gives the right variance, see _spread
        # Not on a CPU: what torch 2.13 makes of the stacked matrices there writes past their end.
        self._compiled = torch.compile(self._from_tensors, dynamic=False) if compiled else None
        self._shape: torch.Size | None = None
        self._starts: tuple[tuple[int, int, torch.device], Tensor] | None = None

    @torch.no_grad()
    def __call__(self, image: Tensor, mask: Tensor, generator: SampleRandom) -> tuple[Tensor, Tensor]:
        size = image.shape[-1]
        alike = image.ndim == 4 and mask.shape == (len(image), 1, size, size) and image.shape[-2] == size
        if not alike or len(generator) != len(image):
            raise UsageError.of(
                "augment-batch",
                "the augmentation needs square slices with a mask and a random number stream each",
                expected="image [B, C, S, S] and mask [B, 1, S, S], B indices",
                found=f"image {list(image.shape)}, mask {list(mask.shape)}, {len(generator)} indices",
            )
        self._shape = self._shape or image.shape
        # Positions need float32: bfloat16 has 8 bits, which is whole pixels in a slice of 256.
        with torch.autocast(image.device.type, enabled=False):
            if image.device.type == "cpu":
                moves, window = self._moves(generator), self.config.window
                image, mask = move(image, mask, moves, self._nodes, generator, window)
            # Another shape, as that of an epoch's last batch, would be compiled anew.
            elif self._compiled is None or image.device.type != "cuda" or image.shape != self._shape:
                image, mask = self.batched(image, mask, generator)
            else:
                image, mask = self._quickly(self._compiled, image, mask, generator)
            if changes_intensity(self.config):
                image = change_intensity(image, generator, self.config)
            return image, mask

    def _quickly(
        self, compiled: Callable[..., tuple[Tensor, Tensor]], image: Tensor, mask: Tensor, generator: SampleRandom
    ) -> tuple[Tensor, Tensor]:
        """By the compiled code; where this torch can not compile it, as it is from now on, and that is said."""
        starts = self._starts_of(generator, image.device)
        try:
            return compiled(image, mask, generator.indices.to(image.device), starts)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler's errors are of many kinds
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            what = f"the augmentation is not compiled: {type(error).__name__}: {reason}"
            warnings.warn(what, RuntimeWarning, stacklevel=2)
            self._compiled = None
            return self.batched(image, mask, generator)

    def _starts_of(self, generator: SampleRandom, device: torch.device) -> Tensor:
        """What the streams' hashes begin with, and their step, ``int64 [5]``; sent once an epoch: the device waits."""
        key = (generator.seed, generator.epoch, device)
        if self._starts is None or self._starts[0] != key:
            self._starts = key, torch.tensor([*map(generator.start, _STREAMS), STEP], device=device)
        return self._starts[1]

    def _from_tensors(self, image: Tensor, mask: Tensor, indices: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        *begun, step = starts.unbind()
        return self.batched(image, mask, DeviceRandom(indices, dict(zip(_STREAMS, begun, strict=True)), step))

    def batched(self, image: Tensor, mask: Tensor, generator: Random) -> tuple[Tensor, Tensor]:
        """Everything but grey levels, on the whole batch at once; for a CPU, :func:`augment_cpu.move` is quicker."""
        image, mask, size = image.float(), mask.float(), image.shape[-1]
        positions = self.positions(self.draw(generator, image.device), generator, size)
        if self.config.mirror:
            sides = self._sides(generator, image.device)[:, None, None]
            positions[..., 0] *= sides  # to the mirror image of each place
        window = self.config.window
        if 0 < window < size:  # only what is seen is worked out
            coarse = _nearest(mask, positions[:, ::COARSE, ::COARSE])
            positions = cut(positions, window_starts(coarse, generator, size, window), window)
        return sample(image, mask, positions)

    def _moves(self, generator: SampleRandom) -> list[Move]:
        """What is drawn as plain numbers, which on a CPU cost less than tensors of a few."""
        drawn, unit = self.draw(generator, "cpu"), 2.0 / REFERENCE_SIZE
        sides = self._sides(generator, "cpu").tolist() if self.config.mirror else [1.0] * len(generator)
        moves = []
        for side, scale, angle, shift_x, shift_y, strength, smoothness in zip(
            sides, *(values.tolist() for values in vars(drawn).values()), strict=True
        ):
            cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
            inverse = (side * cos, side * sin, -sin, cos)
            strength *= unit * (self._weight / smoothness) ** 2
            moves.append(Move(inverse, (2.0 * shift_x, 2.0 * shift_y), strength, smoothness))
        return moves

    def _sides(self, generator: Random, device: torch.device | str) -> Tensor:
        """-1 for samples that are mirrored, else 1: ``float32 [B]``."""
        mirrored = generator.uniform("mirror", 1, device)[:, 0] < self.config.mirror
        return torch.where(mirrored, -1.0, 1.0)

    def draw(self, generator: Random, device: torch.device | str | None = None) -> Transform:
        """The parameters of each sample, uniform in their ranges."""
        config = self.config
        u = generator.uniform("transform", 6, device).unbind(1)
        turn = math.radians(config.rotation_deg)
        return Transform(
            scale=_between(u[0], *config.scale),
            angle=_between(u[1], -turn, turn),
            shift_x=_between(u[2], -config.translation, config.translation),
            shift_y=_between(u[3], -config.translation, config.translation),
            strength=_between(u[4], *config.elastic_strength),
            smoothness=_between(u[5], *config.elastic_smoothness),
        )

    def positions(self, drawn: Transform, generator: Random, size: int) -> Tensor:
        """Where each output pixel is taken from.

        Returns:
            ``float32 [B, size, size, 2]``, (x, y) in ``grid_sample``'s units without aligned corners: -1 and 1 are the
            outer edges of the first and last pixel, so the centre of the slice is 0 at every size.
        """
        axis = (2.0 * torch.arange(size, device=drawn.scale.device) + 1.0) / size - 1.0
        # The inverse of the affine part, p = R(-angle) (q - shift) / scale.  It is linear, so it is applied to rows,
        # columns and noise before they are spread over the slice.
        cos, sin = (torch.cos(drawn.angle) / drawn.scale, torch.sin(drawn.angle) / drawn.scale)
        inverse = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)  # [B, 2, 2]
        x, y = (axis - 2.0 * drawn.shift_x[:, None], axis - 2.0 * drawn.shift_y[:, None])  # [B, size]
        columns, rows = (inverse[:, :, 0, None] * x[:, None], inverse[:, :, 1, None] * y[:, None])  # [B, 2, size]

        noise, spread = (self._noise(drawn, generator), self._spread(drawn.smoothness, axis))
        noise = torch.einsum("bij,bjkl->bkil", inverse, noise)  # [B, K, 2, K]
        moved = spread @ noise.flatten(2)  # [B, size, 2 * K]
        moved = moved.unflatten(2, (2, -1)).flatten(1, 2) @ spread.transpose(1, 2)  # [B, size * 2, size]
        moved = moved.unflatten(1, (size, 2))  # [B, row, (x, y), column]
        moved += columns[:, None] + rows.transpose(1, 2)[..., None]
        return moved.transpose(2, 3)

    def _noise(self, drawn: Transform, generator: Random) -> Tensor:
        """Strength times noise in units of positions: ``float32 [B, 2, K, K]`` for x and y."""
        count = len(self._nodes)
        noise = generator.uniform("elastic", 2 * count * count, drawn.strength.device) * 2.0 - 1.0
        in_positions = drawn.strength * (2.0 / REFERENCE_SIZE)
        return noise.view(-1, 2, count, count) * in_positions[:, None, None, None]

    def _spread(self, smoothness: Tensor, axis: Tensor) -> Tensor:
        """The Gaussian from noise nodes to pixels along one axis: ``float32 [B, size, K]``.

        Smoothing noise of variance v, one number a pixel, by a Gaussian of standard deviation s along one axis gives
        the variance v * sum(g^2) = v / (2 s sqrt(pi)), and a correlation of exp(-d^2 / (4 s^2)) at distance d.  Nodes
        at a stride of up to s give the same correlation to better than 0.1 % (the Gaussian's spectrum ends before they
        alias), and the same variance when the squares of each row sum to 1 / (2 s sqrt(pi)).  Those of
        exp(-d^2 / 2 s^2) at nodes t apart sum to s sqrt(pi) / t, to better than 0.02 % for t up to s (Poisson's
        summation formula), which is where ``_weight`` comes from.
        """
        distance = axis[:, None] * (REFERENCE_SIZE / 2) - self._nodes.places(axis.device)
        exponent = -(distance**2) / (2.0 * smoothness[:, None, None] ** 2)
        return torch.exp(exponent.clamp_(min=LEAST_EXPONENT)) * (self._weight / smoothness)[:, None, None]


def sample(image: Tensor, mask: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Image (bilinear) and mask (nearest) at ``positions``; outside is air and no tumour.

    Args:
        image: ``float32 [B, C, S, S]``.
        mask: ``float32 [B, 1, S, S]``.
        positions: ``float32 [B, h, w, 2]`` (see :meth:`TorchAugment.positions`).

    Returns:
        ``float32 [B, C, h, w]`` and ``[B, 1, h, w]``.
    """
    # Outside counts as 0 in grid_sample; what part of a pixel lies outside is filled up with air.
    size = image.shape[-1]
    from_edge = ((1.0 - positions.abs()) * (size / 2) + 0.5).clamp_(0.0, 1.0)
    outside = 1.0 - from_edge[..., 0] * from_edge[..., 1]
    moved = grid_sample(image, positions, mode="bilinear", padding_mode="zeros", align_corners=False)
    moved += (AIR * outside)[:, None]
    return moved, _nearest(mask, positions)


def _nearest(mask: Tensor, positions: Tensor) -> Tensor:
    return grid_sample(mask, positions, mode="nearest", padding_mode="zeros", align_corners=False)


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform

"""Random numbers that depend on nothing but (seed, epoch, index): no state, no order, no worker, no device.

Each number is a hash of its coordinates (seed, epoch, index of the sample, name of the stream, counter), the way of
counter-based generators (Salmon et al., SC 2011, https://doi.org/10.1145/2063384.2063405).  The hash is the finaliser
of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, https://doi.org/10.1145/2660193.2660195) with Stafford's constants
(variant 13).  Integer arithmetic wraps in the same way everywhere, so CPU and GPU give the same bits.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the increment of SplitMix64
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_WORD = (1 << 64) - 1


def _signed(word: int) -> int:
    """A 64-bit word as the signed integer of the same bits, which is what torch takes."""
    return word - (1 << 64) if word >> 63 else word


STEP = _signed(_GOLDEN)


class SampleRandom:
    """Random numbers of a batch of samples.

    Args:
        seed: of the run.
        epoch: counts from 0.
        indices: what tells the samples of an epoch apart, one integer a sample (see ``dataset.LungDataset``).
    """

    def __init__(self, seed: int, epoch: int, indices: Sequence[int] | Tensor) -> None:
        self.seed = int(seed)
        self.epoch = int(epoch)
        self.indices = torch.as_tensor(indices, dtype=torch.int64).reshape(-1)

    def __len__(self) -> int:
        return len(self.indices)

    def uniform(self, stream: str, count: int, device: torch.device | str | None = None) -> Tensor:
        """Numbers that are uniform in [0, 1).

        Args:
            stream: name of a use; different names give independent numbers.
            count: how many for each sample; the first ones are the same for every ``count``.
            device: where to compute them (default: where ``indices`` are); the values are the same on each.

        Returns:
            ``float32 [B, count]``, multiples of 2^-24.
        """
        indices = self.indices if device is None else self.indices.to(device)
        if indices.device.type != "cpu":
            return _uniform(indices, self.start(stream), count)
        numbers, rooms = np.empty((len(self), count), np.float32), np.empty((2, count), np.uint64)
        for row, key in zip(numbers, self._keys(stream), strict=True):
            _fill(row, key, rooms)
        return torch.from_numpy(numbers)

    def uniform_each(self, stream: str, count: int) -> Iterator[Tensor]:
        """:meth:`uniform` of one sample after the other, on the CPU, each in the memory of the one before.

        Yields:
            ``float32 [count]``.
        """
        numbers, rooms = np.empty(count, np.float32), np.empty((2, count), np.uint64)
        for key in self._keys(stream):
            _fill(numbers, key, rooms)
            yield torch.from_numpy(numbers)

    def sample(self, k: int) -> SampleRandom:
        """The random numbers of sample ``k`` of the batch alone."""
        return SampleRandom(self.seed, self.epoch, self.indices[k : k + 1])

    def seeds(self, stream: str = "seeds") -> list[int]:
        """One seed a sample in [0, 2^31), for an engine that brings its own generator."""
        # In Python's integers, the same bits as _uniform's hash of counter 1: a tensor operation costs more than this.
        start = self.start(stream)
        keys = (_mix_int((index - 1) * _GOLDEN + start) for index in self.indices.tolist())
        return [_mix_int(key) >> 33 for key in keys]

    def start(self, stream: str) -> int:
        """What the hashes of a stream begin with, the same for all samples: 64 bits as a signed integer."""
        return _start(self.seed, self.epoch, stream)

    def _keys(self, stream: str) -> np.ndarray:
        """What the hashes of each sample begin with, ``uint64 [B]``."""
        indices = self.indices.cpu().numpy().view(np.uint64)
        key = indices * np.uint64(_GOLDEN) + np.uint64(self.start(stream) & _WORD)
        for bits, factor in ((30, _MIX_1), (27, _MIX_2)):
            key = (key ^ (key >> np.uint64(bits))) * np.uint64(factor)
        return key ^ (key >> np.uint64(31))


class DeviceRandom:
    """The numbers of a :class:`SampleRandom` out of tensors alone, so that torch can compile what uses them.

    Args:
        indices: of the samples, ``int64 [B]``.
        starts: :meth:`SampleRandom.start` of each stream that will be asked for, ``int64`` of no dimension, on the
            device of ``indices``.
        step: :data:`STEP` in the same form: torch takes a constant that is multiplied with a counter for one of 32
            bits, and can not compile it.
    """

    def __init__(self, indices: Tensor, starts: Mapping[str, Tensor], step: Tensor) -> None:
        self.indices, self.starts, self.step = indices, starts, step

    def __len__(self) -> int:
        return len(self.indices)

    def uniform(self, stream: str, count: int, device: torch.device | str | None = None) -> Tensor:
        """As :meth:`SampleRandom.uniform`, bit for bit; the device is that of the indices."""
        return _uniform(self.indices, self.starts[stream], count, self.step)


def seed_generators(seed: int, device: torch.device) -> None:
    """What ``torch.manual_seed`` does for the CPU and one device.

    torch's own goes through every kind of accelerator that it knows, and notes a stack trace for each that is not
    there: a third of a millisecond, at every step of a run.

    Args:
        seed: 0 to below 2^63.
        device: beside the CPU.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@functools.lru_cache(maxsize=64)
def _start(seed: int, epoch: int, stream: str) -> int:
    name = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")
    return _signed(_mix_int(_mix_int(_mix_int(seed) + epoch) + name))


def _uniform(indices: Tensor, start: int | Tensor, count: int, step: int | Tensor = STEP) -> Tensor:
    """``float32 [B, count]`` in [0, 1); ``step`` is the increment of SplitMix64, in whatever form."""
    key = _mix(indices * step + start)
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=indices.device) * step
    # The 24 highest bits fit a float32 without rounding, so 1.0 can not come out.
    return _shift(_mix(key[:, None] + counter), 40).to(torch.float32) * 2.0**-24


def _fill(numbers: np.ndarray, key: np.uint64, rooms: np.ndarray) -> None:
    """The numbers of one sample as :func:`_uniform` has them, in place: on a CPU, new arrays cost more than the hash.

    Args:
        numbers: ``float32 [count]`` to fill.
        key: what its hashes begin with.
        rooms: ``uint64 [2, count]`` to work in.
    """
    value, spare = rooms
    np.add(_counters(len(numbers)), key, out=value)
    for bits, factor in ((30, _MIX_1), (27, _MIX_2)):
        np.right_shift(value, bits, out=spare)
        np.bitwise_xor(value, spare, out=value)
        np.multiply(value, np.uint64(factor), out=value)
    # The last step of the hash leaves the 31 highest bits as they are, and 24 are kept.
    np.right_shift(value, 40, out=value)
    np.multiply(value.view(np.int64), np.float32(2.0**-24), out=numbers, casting="unsafe")


@functools.lru_cache(maxsize=8)
def _counters(count: int) -> np.ndarray:
    """1 to ``count`` times the increment of SplitMix64, ``uint64 [count]``."""
    return np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)


def _mix_int(value: int) -> int:
    """The hash of one Python integer, taken modulo 2^64; unsigned."""
    value = (value + _GOLDEN) & _WORD
    value = ((value ^ (value >> 30)) * _MIX_1) & _WORD
    value = ((value ^ (value >> 27)) * _MIX_2) & _WORD
    return value ^ (value >> 31)


def _mix(value: Tensor) -> Tensor:
    """The same bits as :func:`_mix_int` without its first addition; ``int64`` taken as 64 plain bits."""
    value = (value ^ _shift(value, 30)) * _signed(_MIX_1)
    value = (value ^ _shift(value, 27)) * _signed(_MIX_2)
    return value ^ _shift(value, 31)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch itself copies the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)

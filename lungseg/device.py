"""Where a network runs, and how precisely: CUDA, MPS or CPU; bf16 where the device is fast at it."""

from __future__ import annotations

import contextlib
import functools

import torch

from .errors import MachineError, UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "32", "bf16")
_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}  # Intel since Sapphire Rapids, AMD since Zen 4
_AMPERE = (8, 0)  # the first compute capability with tensor cores for bf16 (NVIDIA A100 white paper, 2020)


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``: ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: there is no such name.
        MachineError: this machine, or this build of torch, has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    kind, colon, number = name.partition(":")
    if kind not in DEVICES[1:] or (colon and not (kind == "cuda" and number.isdecimal())):
        raise UsageError.of("unknown-device", "there is no such device", expected=", ".join(DEVICES), found=name)
    count = {"cpu": 1, "mps": int(_has_mps()), "cuda": torch.cuda.device_count()}[kind]
    if int(number or 0) >= count:
        mend = "Use --device auto or --device cpu."
        raise MachineError.of("no-device", "this machine has no such device", found=name, mend=mend)
    return torch.device(name)


def fast_at_bf16(device: torch.device) -> bool:
    """Whether convolutions in bf16 are faster than in float32 here.

    They are on NVIDIA GPUs since Ampere, and on CPUs with instructions for bf16; other CPUs only emulate it.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _AMPERE
    return device.type == "cpu" and not _CPU_FLAGS.isdisjoint(_cpu_flags())


def autocast(device: torch.device, precision: str = "auto") -> contextlib.AbstractContextManager:
    """Context for the forward pass: bf16 autocast where ``precision`` asks for it or ``auto`` finds it fast.

    Raises:
        UsageError: ``precision`` is none of :data:`PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise UsageError.of(
            "unknown-precision", "there is no such precision", expected=", ".join(PRECISIONS), found=precision
        )
    if precision == "bf16" or (precision == "auto" and fast_at_bf16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """What the processor can do, by the names of Linux; nothing where the system does not say."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        line = ""
    return frozenset(line.split())


def _has_mps() -> bool:
    return torch.backends.mps.is_available()

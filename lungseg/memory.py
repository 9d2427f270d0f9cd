"""How much memory is free, asked before something large is read; and memory that is kept from scan to scan."""

from __future__ import annotations

import os

import numpy as np

from .errors import MachineError, Problem

_WORTH_ASKING = 1 << 28  # bytes below which nobody asks: the answer takes longer than the use of it
_bound: int | None = None


def bound_memory(limit_bytes: int | None) -> None:
    """Let this process hold no more than so many bytes, whatever is free; None or 0 for no bound of its own.

    The worker of a cluster shares its machine: one that takes more than its part is killed.
    """
    global _bound
    _bound = limit_bytes or None


def available_memory() -> int:
    """Memory that this process may take, bytes: what is free, within its bound if it has one (:func:`bound_memory`)."""
    return _free() if _bound is None else max(0, min(_free(), _bound - _held()))


def _held() -> int:
    """Memory that this process holds, bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _free() -> int:
    """Memory that is free or can be freed at once, bytes; half of all memory where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = dict(line.split(":", 1) for line in file)
        return int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def require_memory(needed_bytes: int) -> None:
    """Ask for memory before a scan is read into it: a system that runs out kills whatever process it likes.

    Raises:
        MachineError: there is less than ``needed_bytes``.
    """
    if needed_bytes < _WORTH_ASKING or needed_bytes <= (free := available_memory()):
        return
    raise MachineError(
        Problem(
            "memory",
            "there is not enough memory for this scan",
            expected=f"{needed_bytes / 1e9:.2f} GB",
            found=f"{free / 1e9:.2f} GB free",
            mend="Use fewer --workers, close other programs, or take a machine with more memory.",
        )
    )


class Room:
    """Memory that one scan after another is read into.

    The system clears every page that it gives away, and a virtual machine's has to be got from its host first: for a
    scan of 160 MB that can take as long as inflating it.  What is read into a room is overwritten by the next scan.
    """

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def take(self, count: int) -> np.ndarray:
        """``count`` bytes, uint8, with whatever stood there; all that was taken before is no longer to be used."""
        if count > self._bytes.size:
            self.clear()
            # Pages of np.empty are backed when they are written: a lying header costs address space, not memory.
            self._bytes = np.empty(count, np.uint8)
        return self._bytes[:count]

    def clear(self) -> None:
        """Give the memory back."""
        self._bytes = np.empty(0, np.uint8)

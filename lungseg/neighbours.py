"""The slices above and below as further channels of a slice ("2.5D"): a vessel runs on through them, a nodule ends.

They are taken at a distance in millimetres, so that scans of thin and of thick slices show the network the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from .errors import UsageError

MOST = 16  # on each side
MOST_MM = 1000.0  # from one to the next
_TIE = 1e-3  # 2.5 mm lie between slice 2 and slice 3 of 1 mm; what rounding has left of 1.0 must not decide


@dataclass(frozen=True)
class Neighbours:
    """Which slices of a scan are shown together.

    Args:
        count: on each side; 0 is the slice alone.
        apart_mm: from one to the next, millimetres along the scan, to the nearest whole slice, at least one.
    """

    count: int = 0
    apart_mm: float = 2.5

    @property
    def channels(self) -> int:
        """Slices that are shown together."""
        return 2 * self.count + 1

    def steps(self, slice_mm: float) -> tuple[int, ...]:
        """How many slices further each channel lies, from the feet up; the middle one is 0.

        Args:
            slice_mm: from one slice of the scan to the next, millimetres.
        """
        step = max(1, math.floor(self.apart_mm / slice_mm + 0.5 - _TIE))
        return tuple(step * number for number in range(-self.count, self.count + 1))

    def table(self, places: Sequence[int] | np.ndarray, slice_mm: float) -> np.ndarray:
        """Which slices are shown with each one.

        Beyond the first and the last it is the first and the last again; in the place of one that is missing in between
        it is the slice itself.

        Args:
            places: of the slices in the scan, rising, ``[N]``.
            slice_mm: from one place to the next, millimetres.

        Returns:
            Indices into ``places``, ``int64 [N, channels]``.
        """
        at = np.asarray(places, np.int64)
        wanted = np.clip(at[:, None] + np.array(self.steps(slice_mm)), at[0], at[-1])
        found = np.searchsorted(at, wanted)
        return np.where(at[found] == wanted, found, np.arange(len(at))[:, None])

    def stacks(self, slices: Iterable[np.ndarray], places: Sequence[int], slice_mm: float) -> Iterator[np.ndarray]:
        """The slices of a scan, each with its neighbours; no more of them are held than lie between the outer ones.

        Args:
            slices: ``[H, W]`` each, in the order of ``places``.
            places, slice_mm: as in :meth:`table`.

        Yields:
            ``[channels, H, W]``.
        """
        if not len(places):
            return
        held: dict[int, np.ndarray] = {}
        table, numbered = self.table(places, slice_mm), enumerate(slices)
        first, seen = np.minimum.accumulate(table.min(1)[::-1])[::-1].tolist(), 0  # what is still wanted, and was read
        for row, oldest in zip(table.tolist(), first, strict=True):
            held = {index: one for index, one in held.items() if index >= oldest}
            held.update(islice(numbered, max(0, max(row) + 1 - seen)))
            seen = max(seen, max(row) + 1)
            yield np.stack([held[index] for index in row])


ALONE = Neighbours()


def refuse_gaps(count: int, gaps: bool, file: str | Path) -> None:
    """Raise :class:`UsageError` where neighbours are wanted of stacks with gaps."""
    if count and gaps:
        raise _no_neighbours("the stacks have gaps", file)


def refuse_shards(count: int, shards: bool, file: str | Path) -> None:
    """Raise :class:`UsageError` where neighbours are wanted of shards."""
    if count and shards:
        raise _no_neighbours("shards give one slice at a time", file)


def _no_neighbours(why: str, file: str | Path) -> UsageError:
    mend = "Do without --neighbours, or take whole scans, preprocessed without --slice-sets."
    return UsageError.of("no-neighbours", f"{why}, so no slice has true neighbours", file=file, mend=mend)

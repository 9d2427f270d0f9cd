"""Which slices of a scan are shown."""

from __future__ import annotations

import numpy as np

from lungseg.errors import DataError, UsageError

# A picture is a help for the eye; beyond this many frames it fills the memory of whoever opens it.
MOST_FRAMES = 1000


def evenly(count: int, n: int) -> list[int]:
    """At most ``n`` of ``range(count)``, rising, as even as can be, the first and the last among them (``n`` > 1).

    Raises:
        UsageError: ``n`` is below 1.
    """
    if n < 1:
        raise UsageError.of("bad-count", "too few to show", expected="1 or more", found=str(n))
    if n == 1:
        return [count // 2] if count else []
    return list(range(count)) if count <= n else np.linspace(0, count - 1, n).round().astype(int).tolist()


def choose_slices(
    n_slices: int, *, every: int | None = None, max_frames: int = 100, tumour: np.ndarray | None = None
) -> list[int]:
    """The slices of an animation, rising.

    Without ``every`` there are at most ``max_frames``, evenly spread; slices with tumour take up to half of them first,
    so that a nodule of two slices is not jumped over.

    Args:
        n_slices: slices of the scan.
        every: take each n-th slice, whatever their number.
        max_frames: the most slices where ``every`` is not given.
        tumour: ``bool [n_slices]``, which slices show tumour.

    Raises:
        DataError: the scan has no slice.
        UsageError: ``every`` or ``max_frames`` is below 1, or ``every`` leaves more than 1000 frames.
    """
    if n_slices < 1:
        raise DataError.of("no-slices", "there is no slice to show", expected="1 slice or more", found="0")
    if every is not None:
        if every < 1:
            raise UsageError.of("bad-every", "--every is too small", expected="1 or more", found=str(every))
        chosen = list(range(0, n_slices, every))
        if len(chosen) > MOST_FRAMES:
            raise UsageError.of(
                "too-many-frames",
                "that makes too long an animation",
                expected=f"{MOST_FRAMES} frames or fewer",
                found=f"{len(chosen)} frames",
                mend=f"Take --every {-(-n_slices // MOST_FRAMES)} or more.",
            )
        return chosen
    if max_frames < 2 or n_slices <= max_frames or tumour is None or not tumour.any():
        return evenly(n_slices, max_frames)
    with_tumour, without = np.flatnonzero(tumour), np.flatnonzero(~tumour)
    shown = with_tumour[evenly(len(with_tumour), max_frames // 2)].tolist()
    shown += without[evenly(len(without), max_frames - len(shown))].tolist()
    return sorted(shown)

"""A scan from feet to head as an animated GIF or WebP, with the outlines of truth and prediction."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lungseg.errors import LungsegError, UsageError
from lungseg.files import atomic_write, make_folder
from lungseg.geometry import to_las
from lungseg.nifti import Scan, read_label, read_scan
from lungseg.pairs import check_pair, hu_warnings
from lungseg.place import local
from lungseg.progress import progress

from .encoding import check_suffix, encode_animation, frame_ms
from .frames import Detail, check_volumes, render_frames, tumour_slices
from .selection import choose_slices, evenly
from .windows import Window, window_hu

_STAGE = "animate"
# So many frames, spread over the scan, tell beforehand about how large the file will be.
_SAMPLE = 8
# From best to smallest; the first that keeps the file within its limit is taken.
_DETAILS = (
    Detail(384, 128, 0.0),
    Detail(384, 64, 0.0),
    Detail(384, 32, 0.0),
    Detail(384, 32, 0.8),
    Detail(384, 20, 1.2),
    Detail(320, 16, 1.2),
    Detail(256, 16, 1.2),
    Detail(192, 12, 1.2),
)


def animate(
    scan: str | Path,
    out: str | Path,
    *,
    mask: str | Path | None = None,
    truth: str | Path | None = None,
    window: Window = "lung",
    every: int | None = None,
    fps: float = 10.0,
    max_frames: int = 100,
    max_bytes: int = 5_000_000,
    case: str | None = None,
    show_progress: bool = True,
) -> Path:
    """Write the animation of a whole scan: one frame a slice, from the feet to the head.

    Args:
        scan: NIfTI file of the CT.
        out: ``.gif`` or ``.webp``; its folder is made where it is missing.
        mask: NIfTI file of the predicted tumour, on the scan's grid.
        truth: NIfTI file of the true tumour, on the scan's grid.
        window: HU range to show.
        every: show each n-th slice; without, at most ``max_frames``, slices with tumour first.
        fps: frames a second.
        max_frames: the most frames where ``every`` is not given.
        max_bytes: the largest file; greys, then pixels, are given up to keep it.
        case: name in the caption; the scan's file name without.
        show_progress: whether to show how far it is.

    Returns:
        ``out`` as a path.

    Raises:
        DataError: a file is no sound scan or label, or a mask is on another grid.
        UsageError: an option is out of range, or the file can not be made small enough.
        MachineError: the disk is full or ``out`` can not be written.
    """
    out = local(out)
    try:
        # What needs no scan is asked before one is read.
        check_suffix(out)
        frame_ms(fps)
        window_hu(window)
        source = read_scan(scan)
        for problem in (*source.warnings, *hu_warnings(source)):
            print(f"{_STAGE}: warning: {problem}", file=sys.stderr, flush=True)
        hu, affine, _ = to_las(source.voxels, source.affine)
        predicted, true = (None if path is None else _label_of(source, path) for path in (mask, truth))
        check_volumes(hu, predicted, true)
        chosen = choose_slices(hu.shape[2], every=every, max_frames=max_frames, tumour=tumour_slices(predicted, true))
    except LungsegError as error:
        error.stage = error.stage or _STAGE
        raise
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    name = source.name if case is None else case
    make_folder(out.parent)

    def encoded(slices: list[int], detail: Detail, *, show: bool) -> bytes:
        frames: Iterable[np.ndarray] = render_frames(
            hu, predicted, true, spacing_mm, slices=slices, case=name, window=window, detail=detail
        )
        if show:
            frames = progress(frames, what=_STAGE, total=len(slices), unit="frame")
        return encode_animation(frames, out.suffix.lower(), fps)

    sample = [chosen[i] for i in evenly(len(chosen), _SAMPLE)]
    for detail in _DETAILS:
        if detail is not _DETAILS[-1] and len(encoded(sample, detail, show=False)) * len(chosen) > max_bytes * len(
            sample
        ):
            continue
        data = encoded(chosen, detail, show=show_progress)
        if len(data) <= max_bytes:
            atomic_write(out, data)
            return out
    raise UsageError.of(
        "animation-too-large",
        "the animation can not be made small enough",
        expected=f"{max_bytes / 1e6:g} MB or less",
        found=f"{len(data) / 1e6:.1f} MB",
        mend="Take fewer slices: a larger --every.",
        file=out,
        stage=_STAGE,
    )


def _label_of(scan: Scan, path: str | Path) -> np.ndarray:
    """The label of ``path`` as ``uint8`` L-A-S voxels, once it is seen to lie on the scan's grid."""
    label = read_label(path)
    check_pair(scan, label, ("scan", "mask"))
    return to_las(label.voxels, label.affine)[0]

"""Frames of palette indices to the bytes of a GIF or WebP."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from lungseg.errors import DataError, UsageError
from lungseg.files import atomic_write

from .colours import PALETTE

_SUFFIXES = (".gif", ".webp")
# Browsers play GIF frames of 10 ms or less at 100 ms instead.
_FPS = (0.1, 50.0)
# Below, WebP washes the colours out of lines of one or two pixels, as it keeps colour at half the resolution.
_WEBP_QUALITY = 90


def check_suffix(out: str | Path) -> None:
    """Raise ``UsageError`` where ``out`` is no ``.gif`` or ``.webp``."""
    if Path(out).suffix.lower() not in _SUFFIXES:
        raise UsageError.of("bad-suffix", "is no name of an animation", expected=" or ".join(_SUFFIXES), file=out)


def frame_ms(fps: float) -> int:
    """How long a frame lasts, ms, in the whole hundredths of a second that a GIF can say.

    Raises:
        UsageError: ``fps`` is not within 0.1 to 50.
    """
    if not (math.isfinite(fps) and _FPS[0] <= fps <= _FPS[1]):
        raise UsageError.of(
            "bad-fps", "--fps is out of range", expected=f"{_FPS[0]:g} to {_FPS[1]:g} a second", found=f"{fps:g}"
        )
    return 10 * round(100 / fps)


def save_animation(frames: Iterable[np.ndarray], out: str | Path, fps: float = 10.0) -> Path:
    """Write frames of :func:`lungseg.visualize.render_frames` as an endless animation, in one step.

    Args:
        frames: ``uint8 [row, column]`` each, indices into the palette, all of one size.
        out: ``.gif`` or ``.webp``; its folder must exist.
        fps: frames a second, 0.1 to 50; a frame lasts a whole number of hundredths of a second.

    Raises:
        DataError: there is no frame.
        UsageError: another suffix, ``fps`` out of range, or no such folder.
        MachineError: ``out`` can not be written.
    """
    out = Path(out)
    check_suffix(out)
    atomic_write(out, encode_animation(frames, out.suffix.lower(), fps))
    return out


def encode_animation(frames: Iterable[np.ndarray], suffix: str, fps: float) -> bytes:
    """The bytes of the animation (see :func:`save_animation`)."""
    images = (_image(frame, suffix) for frame in frames)
    first = next(images, None)
    if first is None:
        raise DataError.of("no-slices", "there is no frame to show", expected="1 frame or more", found="0")
    duration_ms = frame_ms(fps)
    buffer = io.BytesIO()
    if suffix == ".gif":
        first.save(buffer, "GIF", save_all=True, append_images=images, duration=duration_ms, loop=0, optimize=False)
    else:
        first.save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=images,
            duration=duration_ms,
            loop=0,
            quality=_WEBP_QUALITY,
            method=0,
            kmax=0,
        )
    return buffer.getvalue()


def _image(frame: np.ndarray, suffix: str) -> Image.Image:
    if suffix != ".gif":
        return Image.fromarray(PALETTE[frame])
    image = Image.fromarray(frame)
    image.putpalette(PALETTE.tobytes())
    return image

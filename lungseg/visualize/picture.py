"""A matplotlib figure that a notebook shows without any set-up and that leaves pyplot's global state alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lungseg.errors import UsageError
from lungseg.files import atomic_path

_SUFFIXES = (".png", ".pdf", ".svg")
# Shades of each of red, green and blue in a notebook's copy of a figure: the noise of a CT in 256 greys would make the
# notebook some four times as large.
_SHADES = 32


class Picture(Figure):
    """A figure drawn by Agg.

    A plain ``Figure`` shows in a notebook only after ``%matplotlib inline``; this one brings its own PNG, a small one.
    Where that line was run, IPython finds its printer for ``Figure`` first, so nothing is shown twice.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        FigureCanvasAgg(self)

    def write(self, out: str | Path) -> None:
        """Write the figure to a ``.png``, ``.pdf`` or ``.svg`` file in one step.

        Raises:
            UsageError: another suffix, or the folder does not exist.
            MachineError: the disk is full or the file can not be written.
        """
        out = Path(out)
        if out.suffix.lower() not in _SUFFIXES:
            raise UsageError.of("bad-suffix", "is no name of a figure", expected=" or ".join(_SUFFIXES), file=out)
        with atomic_path(out) as temporary:
            self.savefig(temporary)

    def _repr_png_(self) -> bytes:
        drawn, small = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", bbox_inches="tight", facecolor="white")
        nearest = np.rint(np.rint(np.arange(256) / 255 * (_SHADES - 1)) / (_SHADES - 1) * 255).astype(np.uint8)
        _few_colours(nearest[np.asarray(Image.open(drawn).convert("RGB"))]).save(small, "PNG", optimize=True)
        return small.getvalue()


def _few_colours(rgb: np.ndarray) -> Image.Image:
    """An RGB picture ``uint8 [row, column, 3]`` with a palette where 256 colours are enough; no colour changes."""
    keys = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, indices = np.unique(keys, return_inverse=True)
    if len(colours) > 256:
        return Image.fromarray(rgb)
    image = Image.fromarray(indices.reshape(keys.shape).astype(np.uint8))
    image.putpalette(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8).tobytes())
    return image

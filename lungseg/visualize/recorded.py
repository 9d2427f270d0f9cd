"""An animation recorded from a matplotlib figure by celluloid, for notebooks.

It keeps every frame's artists in memory; ``animation`` is the way for whole scans.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celluloid import Camera
from matplotlib.animation import AbstractMovieWriter, ArtistAnimation
from matplotlib.figure import Figure
from PIL import Image

from lungseg.errors import NOTICE
from lungseg.files import atomic_path

from .colours import BRIGHTEST_INDEX, PALETTE, PREDICTION_INDEX, TRUTH_INDEX
from .encoding import check_suffix, frame_ms
from .figures import Slices
from .panels import Unit, check_counts, draw_slice, outline_legend, panel_grid
from .selection import evenly
from .windows import Window

# 32 greys and the two colours: a palette of its own for each frame, with dithering, would make the file five times as
# large.
_GREYS = range(0, BRIGHTEST_INDEX + 1, 8)


def record(
    images: Slices,
    masks: Slices | None = None,
    truths: Slices | None = None,
    out: str | Path | None = None,
    fps: float = 10.0,
    *,
    n: int = 100,
    labels: Sequence[object] | None = None,
    title: str = "",
    width: float = 3.6,
    window: Window = "lung",
    unit: Unit = "preprocessed",
) -> ArtistAnimation:
    """Record one frame a slice.

    A notebook shows the result with ``HTML(animation.to_jshtml())``, or, in a tenth of the space, the file itself with
    ``Image(data=Path(out).read_bytes())``.

    Args:
        images: slices in the order to show; ``unit`` says in what.
        masks: predicted masks, one an image, tumour above 0.5.
        truths: true masks, likewise.
        out: also write the animation there (``.gif`` or ``.webp``), in one step.
        fps: frames a second.
        n: the most frames; of more slices, as many are taken evenly.
        labels: what stands on each slice; ``slice i`` without.
        title: above the slices.
        width: of the picture, inches of 100 pixels.
        window: HU range to show.
        unit: ``preprocessed`` (HU / 3071) or ``hu``.

    Raises:
        DataError: there is no slice, or masks and images do not match in number or shape.
        UsageError: ``fps`` or ``n`` is out of range, or ``out`` has another suffix.
    """
    check_counts(images, masks=masks, truths=truths, labels=labels)
    duration_ms = frame_ms(fps)
    if out is not None:
        check_suffix(out)
    figure, (axes,) = panel_grid(1, 1, title=title, foot=True, width=width)
    axes.set_title(NOTICE, fontsize=min(8.0, 2 * width), pad=3)
    outline_legend(
        figure, truth=None if truths is None else "truth", prediction=None if masks is None else "prediction"
    )
    camera = Camera(figure)
    for i in evenly(len(images), n):
        mask, truth = (None if items is None else items[i] for items in (masks, truths))
        draw_slice(axes, images[i], mask, truth, window=window, unit=unit)
        # A title is no artist of the axes, so celluloid would not record it.
        label = f"slice {i}" if labels is None else str(labels[i])
        axes.text(0.02, 0.98, label, color="white", va="top", fontsize=9, transform=axes.transAxes)
        camera.snap()
    animation = camera.animate(interval=duration_ms, blit=False)
    if out is not None:
        with atomic_path(out) as temporary:
            animation.save(temporary, writer=_FewColours(fps=fps))  # type: ignore[arg-type]  # the stub says int
    return animation


class _FewColours(AbstractMovieWriter):
    """Writes with Pillow as matplotlib's own ``PillowWriter`` does, but every frame with the one palette."""

    def setup(self, fig: Figure, outfile: str | Path, dpi: float | None = None) -> None:
        super().setup(fig, outfile, dpi=dpi)
        self._frames: list[Image.Image] = []
        self._palette = Image.new("P", (1, 1))
        wanted = [*_GREYS, BRIGHTEST_INDEX, TRUTH_INDEX, PREDICTION_INDEX]
        self._palette.putpalette(PALETTE[wanted].tobytes())

    def grab_frame(self, **savefig_kwargs: Any) -> None:
        buffer = io.BytesIO()
        self.fig.savefig(buffer, **{**savefig_kwargs, "format": "rgba", "dpi": self.dpi})
        frame = Image.frombytes("RGBA", self.frame_size, buffer.getvalue()).convert("RGB")
        self._frames.append(frame.quantize(palette=self._palette, dither=Image.Dither.NONE))

    def finish(self) -> None:
        first, *others = self._frames
        first.save(self.outfile, save_all=True, append_images=others, duration=frame_ms(self.fps), loop=0)

"""The caption strip below a frame of an animation: case, slice, legend, window and notice."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lungseg.errors import NOTICE, printable

from .colours import BRIGHTEST_INDEX, PREDICTION_INDEX, TRUTH_INDEX

_MARGIN = 6
_BRIGHT, _DIM = BRIGHTEST_INDEX, 170


def font(size_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along, so that the picture does not hang on the machine's fonts."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size_px)


class Caption:
    """Draws the strip; all but the slice's number is drawn once.

    Args:
        width: pixels of a frame.
        case: name of the case; shortened in its middle where it does not fit.
        window: the window's name.
        truth: what the legend says of the truth, or ``None`` where none is shown.
        prediction: what the legend says of the prediction, or ``None``.
    """

    def __init__(self, width: int, case: str, window: str, truth: str | None, prediction: str | None) -> None:
        self._font = font(max(10, min(13, width // 28)))
        self._line = round(self._font.size * 1.4)
        self._case = printable(case)
        notice = self._wrapped(NOTICE, width - 2 * _MARGIN)
        legend = [(TRUTH_INDEX, truth), (PREDICTION_INDEX, prediction)]
        self._base = Image.new("L", (width, self._line * (2 + len(notice)) + _MARGIN), 0)
        draw = ImageDraw.Draw(self._base)
        left: float = _MARGIN
        square = round(self._font.size * 0.75)
        for index, text in legend:
            if text is None:
                continue
            top = self._line + (self._line - square) // 2 + 2
            draw.rectangle((left, top, left + square - 1, top + square - 1), fill=index)
            draw.text((left + square + 4, self._line + 2), text, fill=_BRIGHT, font=self._font)
            left += square + 4 + round(self._font.getlength(text)) + 2 * _MARGIN
        if left + self._font.getlength(window) < width - _MARGIN:
            self._right(draw, self._line + 2, window, _DIM)
        for number, text in enumerate(notice):
            draw.text((_MARGIN, self._line * (2 + number) + 2), text, fill=_DIM, font=self._font)

    @property
    def height(self) -> int:
        """Rows of the strip, pixels."""
        return self._base.height

    def draw(self, z: int, last: int) -> np.ndarray:
        """The strip of slice ``z`` of 0..``last``: ``uint8 [height, width]``, indices into the palette."""
        image = self._base.copy()
        draw = ImageDraw.Draw(image)
        number = f"slice {z}/{last}"
        self._right(draw, 2, number, _BRIGHT)
        room = image.width - 3 * _MARGIN - self._font.getlength(number)
        draw.text((_MARGIN, 2), self._shortened(self._case, room), fill=_BRIGHT, font=self._font)
        return np.asarray(image)

    def _right(self, draw: ImageDraw.ImageDraw, top: int, text: str, fill: int) -> None:
        draw.text((self._base.width - _MARGIN - self._font.getlength(text), top), text, fill=fill, font=self._font)

    def _shortened(self, text: str, room: float) -> str:
        keep = len(text)
        short = text
        while self._font.getlength(short) > room and keep > 2:
            keep -= 1
            short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        return short

    def _wrapped(self, text: str, room: float) -> list[str]:
        lines: list[str] = []
        for word in text.split():
            if lines and self._font.getlength(f"{lines[-1]} {word}") <= room:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines

"""Small plots as SVG that scale with the page, follow its colours and can be read aloud."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 420, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 14, 46
# Okabe and Ito's palette on white; the page's style sheet has lighter ones for a dark page.  The page names colours by
# class, the attribute is for a notebook, which has no style sheet.
COLOURS = {"a": "#0072b2", "b": "#b34700", "c": "#00664b", "d": "#8f3f74", "ink": "currentColor"}
_DASHES = {"solid": "", "dashed": "6 4", "dotted": "1.5 4"}


def escape(text: str) -> str:
    """Text for HTML and SVG, in an element or a quoted attribute."""
    return html.escape(text, quote=True)


@dataclass(frozen=True)
class Plot:
    """A plot with its words: what it shows, what is to be seen, and its numbers as a table.

    Args:
        title: of the plot.
        reading: a sentence or two for those who can not see it, and for those who wonder what to look for.
        svg: the picture.
        header: names of the table's columns.
        rows: the numbers shown, as text.
    """

    title: str
    reading: str
    svg: str = field(repr=False)
    header: tuple[str, ...] = field(repr=False)
    rows: tuple[tuple[str, ...], ...] = field(repr=False)

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        return self.svg


@dataclass(frozen=True)
class Scale:
    """One axis: its range, its ticks, and whether it is logarithmic.

    Args:
        low: value at the axis' start.
        high: value at its end.
        ticks: values with a label.
        log: whether equal steps are equal factors.
        labels: what the ticks say; numbers without.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False
    labels: tuple[str, ...] = ()

    @classmethod
    def linear(cls, low: float, high: float, steps: int = 5, *, whole: bool = False) -> Scale:
        """An axis from ``low`` to at least ``high`` with ticks at round values."""
        span = max(high - low, 1e-9)
        power = 10.0 ** math.floor(math.log10(span / steps))
        step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= steps)
        step = max(1.0, step) if whole else step
        first = math.floor(low / step + 1e-9)
        last = math.ceil(high / step - 1e-9)
        return cls(first * step, last * step, tuple(round(i * step, 10) for i in range(first, last + 1)))

    @classmethod
    def logarithmic(cls, low: float, high: float) -> Scale:
        """An axis from the power of ten below ``low`` to the one above ``high``."""
        first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
        last = max(last, first + 1)
        return cls(10.0**first, 10.0**last, tuple(10.0**power for power in range(first, last + 1)), log=True)

    def share(self, value: float) -> float:
        """Where along the axis a value lies, 0 to 1; what is beyond an end lies on it."""
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, part))

    def texts(self) -> tuple[str, ...]:
        return self.labels or tuple(f"{tick:g}" for tick in self.ticks)


@dataclass
class Drawing:
    """Axes to draw on; values in, SVG out.

    Args:
        x: the axis to the right.
        y: the axis upwards.
        x_label: what x is, with its unit.
        y_label: what y is.
    """

    x: Scale
    y: Scale
    x_label: str
    y_label: str
    _parts: list[str] = field(default_factory=list)
    _legend: list[str] = field(default_factory=list)
    _texts: list[tuple[float, float, float, float]] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Position of a value in the picture."""
        across = _LEFT + self.x.share(x) * (WIDTH - _LEFT - _RIGHT)
        return round(across, 1), round(_TOP + (1 - self.y.share(y)) * (HEIGHT - _TOP - _BOTTOM), 1)

    def line(
        self, points: Sequence[tuple[float, float]], colour: str = "ink", dash: str = "solid", width: float = 2.0
    ) -> None:
        way = " ".join(f"{x:g},{y:g}" for x, y in (self.at(*point) for point in points))
        self._parts.append(
            f'<polyline class="{colour}" points="{way}" fill="none" stroke="{COLOURS[colour]}" '
            f'stroke-width="{width:g}" stroke-dasharray="{_DASHES[dash]}" stroke-linejoin="round"/>'
        )

    def band(self, low: float, high: float, colour: str = "a") -> None:
        """A horizontal band over the whole width."""
        (left, top), (right, bottom) = self.at(self.x.low, high), self.at(self.x.high, low)
        self._parts.append(
            f'<rect class="{colour} fill" x="{left:g}" y="{top:g}" width="{right - left:g}" '
            f'height="{max(bottom - top, 0.5):g}" fill="{COLOURS[colour]}" fill-opacity="0.16"/>'
        )

    def mark(
        self, x: float, y: float, title: str = "", colour: str = "a", shape: str = "disc", size: float = 5
    ) -> None:
        """A point; its title shows under the mouse."""
        across, up = self.at(x, y)
        fill, say = COLOURS[colour], f"<title>{escape(title)}</title>" if title else ""
        if shape == "disc":
            body = f'<circle cx="{across:g}" cy="{up:g}" r="{size:g}"'
        else:
            ways = {
                "triangle": f"M{across:g} {up - 1.3 * size:g}l{1.25 * size:g} {2.2 * size:g}h{-2.5 * size:g}z",
                "diamond": f"M{across:g} {up - 1.3 * size:g}l{size:g} {1.3 * size:g}l{-size:g} {1.3 * size:g}"
                f"l{-size:g} {-1.3 * size:g}z",
            }
            body = f'<path d="{ways[shape]}"'
        self._parts.append(f'{body} class="{colour} fill mark" fill="{fill}">{say}</{body[1:].split(" ")[0]}>')

    def whisker(self, x: float, low: float, high: float, colour: str = "ink") -> None:
        """A vertical interval."""
        (across, top), (_, bottom) = self.at(x, high), self.at(x, low)
        way = f"M{across - 5:g} {top:g}h10m-5 0V{bottom:g}m-5 0h10"
        self._parts.append(
            f'<path class="{colour}" d="{way}" fill="none" stroke="{COLOURS[colour]}" stroke-width="1.8"/>'
        )

    def is_free(self, box: tuple[float, float, float, float], marks: Sequence[tuple[float, float]]) -> bool:
        """Whether a box (left, top, right, bottom; in the picture) lies inside the axes, on no text and on no mark."""
        left, top, right, bottom = box
        inside = left > _LEFT and right < WIDTH - _RIGHT and top > 0 and bottom < HEIGHT - _BOTTOM
        apart = all(right < other[0] or left > other[2] or bottom < other[1] or top > other[3] for other in self._texts)
        return inside and apart and not any(left - 6 < x < right + 6 and top - 6 < y < bottom + 6 for x, y in marks)

    def text(self, left: float, base: float, text: str) -> None:
        """Text at a place in the picture."""
        self._texts.append((left, base - 10, left + 6.8 * len(text), base + 2))
        self._parts.append(f'<text class="halo" x="{left:g}" y="{base:g}" font-size="12">{escape(text)}</text>')

    def legend(self, text: str, colour: str, dash: str = "solid") -> None:
        """An entry of the legend, drawn over the plot's top."""
        self._legend.append(
            f'<g transform="translate(0 {18 * len(self._legend)})"><line x2="22" y1="-4" y2="-4" class="{colour}" '
            f'stroke="{COLOURS[colour]}" stroke-width="2.5" stroke-dasharray="{_DASHES[dash]}"/>'
            f'<text x="28" font-size="13">{escape(text)}</text></g>'
        )

    def svg(self, title: str, reading: str, *, legend_at: tuple[float, float] = (0.55, 0.1)) -> str:
        """The picture with axes, grid, title and description."""
        grid, ticks = [], []
        floor = HEIGHT - _BOTTOM
        for tick, text in zip(self.y.ticks, self.y.texts(), strict=True):
            _, up = self.at(self.x.low, tick)
            grid.append(f"M{_LEFT} {up:g}H{WIDTH - _RIGHT}")
            ticks.append(f'<text x="{_LEFT - 7}" y="{up + 4.5:g}" text-anchor="end">{escape(text)}</text>')
        for tick, text in zip(self.x.ticks, self.x.texts(), strict=True):
            across, _ = self.at(tick, self.y.low)
            grid.append(f"M{across:g} {_TOP}V{floor}")
            ticks.append(f'<text x="{across:g}" y="{floor + 18}" text-anchor="middle">{escape(text)}</text>')
        middle_x, middle_y = (_LEFT + WIDTH - _RIGHT) / 2, (_TOP + floor) / 2
        legend = ""
        if self._legend:
            left = _LEFT + legend_at[0] * (WIDTH - _LEFT - _RIGHT)
            top = _TOP + 10 + legend_at[1] * (floor - _TOP)
            legend = f'<g transform="translate({left:.0f} {top:.0f})" class="halo">{"".join(self._legend)}</g>'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img" '
            f'aria-label="{escape(f"{title}. {reading}")}" font-family="system-ui, sans-serif" font-size="13" '
            f'fill="currentColor"><title>{escape(title)}</title><desc>{escape(reading)}</desc>'
            f'<path class="grid" d="{"".join(grid)}" stroke="currentColor" stroke-opacity="0.16" fill="none"/>'
            f'<path class="axis" d="M{_LEFT} {_TOP}V{floor}H{WIDTH - _RIGHT}" stroke="currentColor" fill="none"/>'
            f"{''.join(ticks)}"
            f'<text x="{middle_x:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self.x_label)}</text>'
            f'<text transform="translate(14 {middle_y:g}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text>"
            f"{''.join(self._parts)}{legend}</svg>"
        )

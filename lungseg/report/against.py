"""Published methods on the page of an evaluation: a table of all, and a plot of each, patient by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lungseg.errors import printable
from lungseg.published import NEXT_TO_NOTHING, Against

from .content import Report
from .svg import Drawing, Plot, Scale

_LOW, _SMALL = f"under {NEXT_TO_NOTHING:g}", "smallest quarter"
HEADER = (
    "published method", "our setting", "patients", "their mean Dice", "our mean Dice", "difference (95 % interval)",
    "p", "better", "worse", f"{_LOW}, theirs", f"{_LOW}, ours", f"{_SMALL}, theirs", f"{_SMALL}, ours",
)  # fmt: skip
READING = (
    "Each row is a published method on the same patients, each held out there as here. Difference is ours minus "
    "theirs, patient by patient; where its interval holds 0, neither is shown to be better. p: a permutation test of "
    f"the differences. Under {NEXT_TO_NOTHING:g}: patients of whom next to nothing was found. Smallest quarter: mean "
    "Dice of the patients with the fewest voxels of tumour."
)
_UNIT = Scale(0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0))


@dataclass(frozen=True)
class Published:
    """What the template shows.

    Args:
        header: names of the columns.
        rows: as text, in the order of the header.
        reading: what the columns mean.
        notes: whose figures they are, and what they can not mean.
        plots: one a method.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    reading: str
    notes: tuple[str, ...]
    plots: tuple[Plot, ...]


def published_section(report: Report) -> Published | None:
    """The section; None where nothing is compared.  Its plots show the first setting of ours, as the page does."""
    if not report.against:
        return None
    first = report.against[0].ours
    plots = tuple(scatter_plot(one) for one in report.against if one.ours == first)
    notes = dict.fromkeys([*report.against_notes, *(one.comparison.note for one in report.against)])
    return Published(HEADER, rows(report.against), READING, tuple(note for note in notes if note), plots)


def rows(against: Sequence[Against]) -> tuple[tuple[str, ...], ...]:
    """A row for each published method and setting of ours."""
    found = []
    for one in against:
        pair = one.comparison
        between = "" if pair.interval is None else f" ({pair.interval[0]:+.3f} to {pair.interval[1]:+.3f})"
        found.append((
            printable(pair.other), one.ours, str(pair.patients), f"{pair.mean_other:.3f}", f"{pair.mean:.3f}",
            f"{pair.difference:+.3f}{between}", f"{pair.p:.4f}", str(pair.better), str(pair.worse),
            str(one.missed[1]), str(one.missed[0]), f"{one.smallest[1]:.3f}", f"{one.smallest[0]:.3f}",
        ))  # fmt: skip
    return tuple(found)


def scatter_plot(one: Against) -> Plot:
    """Dice of ours against theirs, a mark a patient: above the diagonal ours is better."""
    pair = one.comparison
    drawing = Drawing(_UNIT, _UNIT, f"Dice of {printable(pair.other)}", "Dice of this network")
    drawing.line([(0, 0), (1, 1)], "ink", "dotted", 1.4)
    for row in pair.cases:
        better = row["difference"] > 0
        title = f"{printable(row['case'])}: ours {row['dice']:.2f}, theirs {row['other']:.2f}"
        drawing.mark(row["other"], row["dice"], title, "a" if better else "b", "disc" if better else "triangle")
    reading = (
        f"Each mark is a patient. Above the dotted line (discs, {pair.better}) this network is better, below it "
        f"(triangles, {pair.worse + pair.equal}, ties with them) it is not."
    )
    title = f"Patient by patient against {printable(pair.other)}"
    numbers = tuple(
        (printable(row["case"]), f"{row['dice']:.3f}", f"{row['other']:.3f}", f"{row['difference']:+.3f}")
        for row in pair.cases
    )
    return Plot(title, reading, drawing.svg(title, reading), ("patient", "ours", "theirs", "difference"), numbers)

"""The Dice of two methods on the same patients: paired differences, their interval, and a permutation test."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .errors import UsageError, printable
from .other_scores import OtherScores
from .statistics import CONFIDENCE, bootstrap_interval, sign_flip_p

NOT_ALIKE = (
    "These are slice sets, in which nearly every slice shows tumour: their Dice is higher than on whole scans, so a "
    "difference from figures of whole scans says nothing of the method."
)


@dataclass(frozen=True)
class Comparison:
    """What the patients that both have scored say.

    Args:
        other: name of the other run or file.
        column: of its table.
        patients: that both have.
        mean: Dice of this run over them.
        mean_other: Dice of the other one.
        difference: this minus other, mean.
        interval: of ``difference``, by the bootstrap over patients; None for a single patient.
        p: of the permutation test (:func:`lungseg.statistics.sign_flip_p`).
        better, worse, equal: patients with a higher, a lower and the same Dice here.
        only_here, only_there: patients that are left out because the other one has none.
        cases: ``case``, ``dice``, ``other`` and ``difference`` of each, the largest loss first.
        note: what the figures can not mean; may be empty.
    """

    other: str
    column: str
    patients: int
    mean: float
    mean_other: float
    difference: float
    interval: tuple[float, float] | None
    p: float
    better: int
    worse: int
    equal: int
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    cases: tuple[dict[str, Any], ...]
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}
        interval = None if self.interval is None else [round(end, 6) for end in self.interval]
        return {**values, "interval": interval, "confidence": CONFIDENCE, "only_here": list(self.only_here),
                "only_there": list(self.only_there), "cases": list(self.cases)}  # fmt: skip

    def __str__(self) -> str:
        between = ""
        if self.interval is not None:
            between = f" ({CONFIDENCE:.0%} interval {self.interval[0]:+.3f} to {self.interval[1]:+.3f})"
        count = "1 patient" if self.patients == 1 else f"{self.patients} patients"
        lines = [
            f"against {printable(self.other)}, column {printable(self.column)}, on {count} that both have: "
            f"mean Dice {self.mean:.3f} against {self.mean_other:.3f},",
            f"  difference {self.difference:+.3f}{between}, permutation test p = {self.p:.4f}; "
            f"better in {self.better}, worse in {self.worse}, equal in {self.equal}",
        ]
        for names, where in ((self.only_here, "only here"), (self.only_there, "only there")):
            if names:
                some = ", ".join(map(printable, names[:5])) + (", ..." if len(names) > 5 else "")
                lines.append(f"  left out, {where}: {len(names)} ({some})")
        lines += textwrap.wrap(self.note, 110, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)


def compare(dice: Mapping[str, float], other: OtherScores, *, slice_sets: bool = False, seed: int = 0) -> Comparison:
    """Compare patient by patient.

    Args:
        dice: of this run, by case.
        other: what to compare with.
        slice_sets: whether this run was scored on slice sets.
        seed: of the bootstrap and the permutation test.

    Raises:
        UsageError: the two have no patient in common.
    """
    shared = check_shared(dice, other)
    ours, theirs = (np.array([scores[case] for case in shared]) for scores in (dice, other.dice))
    apart = np.round(ours - theirs, 6)  # as many places as a table of a run has, so that equal ones are equal
    rows = [
        {"case": case, "dice": round(a, 6), "other": round(b, 6), "difference": round(a - b, 6)}
        for case, a, b in zip(shared, ours.tolist(), theirs.tolist(), strict=True)
    ]
    return Comparison(
        other=other.name,
        column=other.column,
        patients=len(shared),
        mean=float(ours.mean()),
        mean_other=float(theirs.mean()),
        difference=float(apart.mean()),
        interval=bootstrap_interval(apart, seed=seed),
        p=sign_flip_p(apart, seed=seed),
        better=int(np.count_nonzero(apart > 0)),
        worse=int(np.count_nonzero(apart < 0)),
        equal=int(np.count_nonzero(apart == 0)),
        only_here=tuple(sorted(set(dice) - set(other.dice))),
        only_there=tuple(sorted(set(other.dice) - set(dice))),
        cases=tuple(sorted(rows, key=lambda row: (row["difference"], row["case"]))),
        note=NOT_ALIKE if slice_sets and not other.slice_sets else "",
    )


def check_shared(cases: Mapping[str, Any] | Sequence[str], other: OtherScores) -> list[str]:
    """The cases that both have, sorted.

    Raises:
        UsageError: there is none.
    """
    shared = sorted(set(cases) & set(other.dice))
    if not shared:
        raise UsageError.of(
            "nothing-shared",
            "has no patient in common with this run, so there is nothing to compare",
            expected=f"some of {', '.join(sorted(cases)[:5])}{', ...' if len(cases) > 5 else ''}",
            found=f"{', '.join(sorted(other.dice)[:5])}{', ...' if len(other.dice) > 5 else ''}",
            file=other.name,
        )
    return shared

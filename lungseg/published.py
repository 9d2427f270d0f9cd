"""What others have published for the very patients of Task06_Lung, and the comparison with it, patient by patient.

The table (``published_task06.json``, which names its source and licence) holds the Dice of nnU-Net v2 for each labelled
case, held out in five folds that are those of :func:`lungseg.splits.k_fold`.  A name alone makes no patient: another
data set may call its own patients ``lung_001`` (the sample does), so of whole scans only those are compared whose label
has as many voxels of tumour as the published one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .case_record import CaseRecord
from .comparison import Comparison, compare
from .errors import printable
from .other_scores import OtherScores
from .records import read_json
from .splits import Fold

FILE = Path(__file__).with_name("published_task06.json")
NEXT_TO_NOTHING = 0.05  # Dice under which a patient counts as missed here, as few voxels may touch by chance
SMALLEST_SHARE = 0.25  # of the patients, by voxels of the published label: half of all points are lost there
BY_NAME = "The stacks are parts of scans, so the patients could be told by their names only."


@dataclass(frozen=True)
class PublishedCase:
    """One patient of the table.

    Args:
        fold: that held the patient out.
        tumour_voxels: of the label.
        dice: by column.
    """

    fold: int
    tumour_voxels: int
    dice: Mapping[str, float]


@dataclass(frozen=True)
class PublishedTable:
    """Dice of several methods by patient.

    Args:
        source: where the figures were published.
        licence: of that place.
        citation: what to cite.
        columns: each method in words, by the name of its column.
        cases: by name.
    """

    source: str
    licence: str
    citation: str
    columns: Mapping[str, str]
    cases: Mapping[str, PublishedCase]


@dataclass(frozen=True)
class Aim:
    """A mean over patients that others reached, to be judged by.

    Args:
        dice: mean over the patients, each held out.
        what: whose, in words.
        source: where it stands.
    """

    dice: float
    what: str
    source: str


AIMS = (
    Aim(0.685, "nnU-Net v2, 3D, residual encoder L, five folds", "the mean of a column of the table"),
    Aim(0.7275, "nnU-Net v1, 3D, five folds, with rank-based decoding", "the benchmark of RankSEG"),
)


@dataclass(frozen=True)
class Against:
    """The same patients by a method of ours and by a published one.

    Args:
        ours: the setting of ours, in words.
        comparison: paired, patient by patient.
        missed: patients with a Dice under 0.05: of ours, of theirs.
        smallest: mean Dice over the quarter with the smallest tumours: of ours, of theirs.
        smallest_patients: how many these are.
    """

    ours: str
    comparison: Comparison
    missed: tuple[int, int]
    smallest: tuple[float, float]
    smallest_patients: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the patients themselves are left to a table of their own."""
        compared = {key: value for key, value in self.comparison.as_dict().items() if key != "cases"}
        smallest = [round(mean, 6) for mean in self.smallest]
        return {**asdict(self), "comparison": compared, "missed": list(self.missed), "smallest": smallest}

    def __str__(self) -> str:
        pair, (left, right) = self.comparison, self.smallest
        between = "" if pair.interval is None else f" ({pair.interval[0]:+.3f} to {pair.interval[1]:+.3f})"
        return (
            f"against {printable(pair.other)}; ours: {self.ours}\n"
            f"  mean Dice {pair.mean:.3f} against {pair.mean_other:.3f}, difference {pair.difference:+.3f}{between}, "
            f"p = {pair.p:.4f}; better in {pair.better} of {pair.patients}, worse in {pair.worse}\n"
            f"  under {NEXT_TO_NOTHING} in {self.missed[0]} against {self.missed[1]}; "
            f"the {self.smallest_patients} smallest tumours {left:.3f} against {right:.3f}"
        )


def published_task06() -> PublishedTable:
    """The table that comes with the package."""
    content = read_json(FILE)
    columns = dict(content["columns"])
    cases = {
        row["case"]: PublishedCase(row["fold"], row["tumour_voxels"], {name: row[name] for name in columns})
        for row in content["cases"]
    }
    return PublishedTable(content["source"], content["licence"], content["citation"], columns, cases)


def same_patients(table: PublishedTable, records: Mapping[str, CaseRecord], *, slice_sets: bool = False) -> list[str]:
    """Names of the cases that are patients of the table, sorted.

    Args:
        table: the published figures.
        records: what is known of the cases here.
        slice_sets: whether the stacks are parts of scans: voxels can not be counted then, and a name has to do.
    """
    shared = sorted(set(table.cases) & {name for name, record in records.items() if record.labelled})
    if slice_sets:
        return shared
    return [name for name in shared if records[name].tumour_voxels == table.cases[name].tumour_voxels]


def same_folds(table: PublishedTable, folds: Sequence[Fold]) -> bool:
    """Whether the held-out patients of every fold, as far as the table has them, are those of one published fold.

    Folds may be numbered otherwise, and patients may be missing on either side.
    """
    held_out = [{table.cases[case].fold for case in fold.val if case in table.cases} for fold in folds]
    numbers = [number for fold in held_out for number in fold]
    return all(len(fold) <= 1 for fold in held_out) and len(numbers) == len(set(numbers)) > 0


def against_published(
    scores: Mapping[str, Mapping[str, float]],
    table: PublishedTable,
    patients: Sequence[str],
    *,
    slice_sets: bool = False,
    seed: int = 0,
) -> tuple[Against, ...]:
    """Every setting of ours against every published column.

    Args:
        scores: Dice by case, by setting in words.
        table: the published figures.
        patients: that may be compared (:func:`same_patients`).
        slice_sets: whether ours were taken on slice sets.
        seed: of the bootstrap and the permutation test.

    Returns:
        One for each column and setting, columns first; empty where nobody can be compared.
    """
    found = []
    for column, words in table.columns.items():
        for ours, dice in scores.items():
            shared = [case for case in patients if case in dice]
            if not shared:
                continue
            theirs = {
                case: table.cases[case].dice[column] for case in table.cases if case in shared or case not in dice
            }
            other = OtherScores(words, column, theirs)
            found.append(_against(ours, compare(dice, other, slice_sets=slice_sets, seed=seed), shared, table))
    return tuple(found)


def _against(ours: str, comparison: Comparison, shared: Sequence[str], table: PublishedTable) -> Against:
    pairs = {row["case"]: (row["dice"], row["other"]) for row in comparison.cases}
    by_size = sorted(shared, key=lambda case: (table.cases[case].tumour_voxels, case))
    smallest = by_size[: max(1, round(SMALLEST_SHARE * len(by_size)))]
    left, right = np.mean([pairs[case] for case in smallest], axis=0).tolist()
    missed = [sum(pair[side] < NEXT_TO_NOTHING for pair in pairs.values()) for side in (0, 1)]
    return Against(ours, comparison, (missed[0], missed[1]), (left, right), len(smallest))

"""What a reproduction found: the scores beside the published ones, which aims were reached, and the page of it all."""

from __future__ import annotations

import csv
import io
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import __version__
from .crossval_score import CrossValidation
from .errors import NOTICE, Problem, printable
from .estimate import duration
from .files import atomic_write
from .manifest import Manifest
from .published import (
    AIMS,
    BY_NAME,
    Against,
    PublishedTable,
    against_published,
    same_folds,
    same_patients,
)
from .report.evaluation_page import write_report
from .splits import Fold

VERIFIED, RESULT, COMPARED, SUBMISSION = "verify.json", "reproduce.json", "comparison.csv", "submission.zip"
PLAIN, TUNED = "threshold 0.5, nothing dropped", "settings chosen on the other folds"
NOBODY = "No patient here is one of those that nnU-Net's figures are published for: nothing is compared."


@dataclass(frozen=True)
class Compared:
    """The scores beside the published ones.

    Args:
        against: by column and setting of ours; empty where nobody could be compared.
        notes: whose figures these are, and what they can not mean.
        rows: a patient each, for a table; empty likewise.
        whole: whether all published patients were scored as there: whole scans, the same folds.
    """

    against: tuple[Against, ...]
    notes: tuple[str, ...]
    rows: tuple[dict[str, Any], ...] = ()
    whole: bool = False

    def write(self, path: Path) -> None:
        """Write the rows as CSV; remove what an earlier call wrote where there are none."""
        if not self.rows:
            path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        atomic_write(path, text.getvalue().encode("utf-8"), durable=True)


@dataclass(frozen=True)
class Reproduction:
    """What came of it.

    Args:
        out: folder of everything.
        evaluation: scores of all held-out patients.
        compared: the same beside the published figures.
        submission: zip of the test scans' masks; None where there are no test scans, or some failed.
        report: the page.
        seconds: that this call took.
        problems: what kept test scans out.
        exit_code: of the worst stage.
    """

    out: Path
    evaluation: CrossValidation
    compared: Compared
    submission: Path | None
    report: Path
    seconds: float
    problems: tuple[Problem, ...] = ()
    exit_code: int = 0

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Each aim, and whether it was reached or why nobody can say."""
        if not self.compared.whole:
            why = "not judged here, which takes all its patients, as whole scans, in its folds"
            return tuple(f"aim {aim.dice:g} ({aim.what}): {why}" for aim in AIMS)
        means = {name: figures["dice_mean"] for name, figures in _figures(self.evaluation).items()}
        return tuple(
            f"aim {aim.dice:g} ({aim.what}): "
            + ", ".join(
                f"{mean:.3f} {'reached' if mean >= aim.dice else 'missed'} by {name}" for name, mean in means.items()
            )
            for aim in AIMS
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON; no path."""
        summary = self.evaluation.summary
        return {
            "notice": NOTICE,
            "lungseg": __version__,
            "recipe": summary["model"]["recipe"],
            "folds": summary["folds"],
            "folds_scored": summary["folds_scored"],
            "slice_sets": summary["slice_sets"],
            "scores": _figures(self.evaluation),
            "predict_uses": summary["predict_uses"],
            "published": [one.as_dict() for one in self.compared.against],
            "whole": self.compared.whole,
            "aims": [{"dice": aim.dice, "what": aim.what, "source": aim.source} for aim in AIMS],
            "verdicts": list(self.verdicts),
            "notes": list(self.compared.notes),
            "submission": None if self.submission is None else self.submission.name,
            "minutes": round(self.seconds / 60, 1),
        }

    def __str__(self) -> str:
        places = {
            "report": self.report,
            "patients beside the published ones": self.out / COMPARED if self.compared.rows else None,
            "all figures": self.out / RESULT,
            "test scans, for the challenge": self.submission,
        }
        lines = [str(self.evaluation).removesuffix(NOTICE).rstrip(), *map(str, self.compared.against)]
        notes = [*self.compared.notes, *(one.comparison.note for one in self.compared.against), *self.verdicts]
        lines += [textwrap.fill(note, 118, subsequent_indent="  ") for note in dict.fromkeys(notes) if note]
        lines += [f"{problem.severity}: {problem}" for problem in self.problems]
        lines.append(f"done in {duration(self.seconds)}")
        lines += [f"  {what:<36}{printable(path)}" for what, path in places.items() if path is not None]
        return "\n".join([*lines, NOTICE])


def compare_with_published(
    evaluation: CrossValidation, published: PublishedTable, manifest: Manifest, folds: list[Fold]
) -> Compared:
    """The patients that are published ones, by both settings of ours, against every published column."""
    gaps = bool(evaluation.summary.get("slice_sets"))
    scores = {PLAIN: {score.case: score.dice for score in evaluation.cases}}
    if evaluation.tuned:
        scores[TUNED] = {score.case: score.dice for score in evaluation.tuned}
    patients = [case for case in same_patients(published, manifest.cases, slice_sets=gaps) if case in scores[PLAIN]]
    against = against_published(scores, published, patients, slice_sets=gaps)
    if not against:
        return Compared((), (NOBODY,))
    alike, every = same_folds(published, folds), len(patients) == len(published.cases)
    said = {
        f"Published figures: {published.citation} ({published.source}; {published.licence}).": True,
        BY_NAME: gaps,
        "The folds are not those of the published runs: other patients were trained on for each.": not alike,
        f"Only {len(patients)} of the {len(published.cases)} published patients are compared.": not every,
    }
    held_out = {case: number for number, fold in enumerate(folds) for case in fold.val}
    rows = tuple(
        {
            "case": case,
            "fold": held_out[case],
            "published_fold": published.cases[case].fold,
            "tumour_voxels": published.cases[case].tumour_voxels,
            **{
                name: round(scores[key][case], 6)
                for name, key in (("dice", PLAIN), ("tuned_dice", TUNED))
                if key in scores
            },
            **published.cases[case].dice,
        }
        for case in patients
    )
    return Compared(against, tuple(note for note, so in said.items() if so), rows, alike and every and not gaps)


def write_whole_report(out: Path, evaluation: CrossValidation, compared: Compared, verdicts: tuple[str, ...]) -> Path:
    """The page of the evaluation with the published methods beside it.

    Raises:
        MachineError: it can not be written.
    """
    assert evaluation.report is not None
    notes = () if compared.against else compared.notes
    page = replace(
        evaluation.report,
        title=f"Reproduction {out.resolve().name}",
        notes=notes,
        against=compared.against,
        against_notes=(*compared.notes, *(f"{line[0].upper()}{line[1:]}." for line in verdicts)),
    )
    return write_report(page, out)


def _figures(evaluation: CrossValidation) -> dict[str, dict[str, Any]]:
    """Mean, interval, median and misses of each setting of ours."""
    tuned = evaluation.summary["tuned"]
    every = {PLAIN: evaluation.summary, **({TUNED: tuned} if evaluation.tuned else {})}
    names = ("patients", "dice_mean", "dice_interval", "dice_median", "missed")
    return {setting: {name: figures[name] for name in names} for setting, figures in every.items()}

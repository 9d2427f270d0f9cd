"""What an evaluation found, in files and in words: the folder ``evaluation`` of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from .case_score import CaseScore
from .comparison import Comparison
from .comparison import compare as compare_scores
from .errors import NOTICE, Problem, printable
from .other_scores import OtherScores
from .patient_summary import table
from .records import write_json
from .report.content import Report
from .report.evaluation_page import PAGE, write_report

FOLDER, CASES, SUMMARY, COMPARISON = "evaluation", "cases.csv", "summary.json", "comparison.json"
WHY_NOT_DICE = (
    "The published recipe's measure: probabilities in place of a mask, all pixels of all slices pooled, skipped slices "
    "left out. Large tumours decide it, missed patients vanish in it; it is not comparable with the Dice of patients."
)


@dataclass(frozen=True)
class Evaluation:
    """How well a run's network does on patients that it never saw.

    Args:
        cases: one a held-out patient, sorted by name.
        summary: numbers over patients, the model and the settings; the content of ``summary.json``.
        folder: where ``cases.csv`` and ``summary.json`` are.
        problems: what kept patients out, and what is odd about others.
        worst: exit code of the worst error among them; 0 where there are at most warnings.
        comparison: with another run or file, where one was asked for.
        report: what ``report.html`` says; None where none was made.
    """

    cases: tuple[CaseScore, ...]
    summary: dict[str, Any]
    folder: Path
    problems: tuple[Problem, ...] = ()
    comparison: Comparison | None = None
    report: Report | None = field(default=None, repr=False)
    worst: int = 0

    @property
    def exit_code(self) -> int:
        return self.worst

    def __str__(self) -> str:
        soft, probabilities = self.summary["published_recipe"]["soft_dice_pooled"], self.summary.get("calibration", {})
        pooled = [] if soft is None else [f"pooled soft Dice of the published recipe, not to be compared: {soft:.3f}"]
        lines = [f"{problem.severity}: {problem}" for problem in self.problems]
        lines.append(table(self.cases, self.summary))
        if probabilities.get("pixels"):
            lines.append(
                f"probabilities near the lungs: expected calibration error {probabilities['ece']:.4f}, Brier score "
                f"{probabilities['brier']:.5f} ({probabilities['brier_of_prevalence']:.5f} for a constant)"
            )
        compared = [] if self.comparison is None else [str(self.comparison)]
        return "\n".join([*lines, *pooled, *compared, *self._look(), NOTICE])

    def compared(self, other: OtherScores | None) -> Self:
        """The same with a comparison, which is written beside the rest; an older one is removed."""
        path = self.folder / COMPARISON
        path.unlink(missing_ok=True)
        if other is None:
            return self
        dice = {score.case: score.dice for score in self.cases}
        comparison = compare_scores(dice, other, slice_sets=bool(self.summary.get("slice_sets")))
        write_json(path, comparison.as_dict())
        if self.report is not None:
            said = " ".join(str(comparison).split())
            write_report(replace(self.report, notes=(f"{said[0].upper()}{said[1:]}",)), self.folder)
        return replace(self, comparison=comparison)

    def _look(self) -> list[str]:
        """Where the report is, if there is one."""
        page = self.folder / PAGE
        return [f"to look at: {printable(page)}"] if page.is_file() else []

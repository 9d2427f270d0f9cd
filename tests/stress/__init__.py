"""Stress: the same faults in great numbers.

Each function takes how many to try and a folder of its own, and gives a :class:`Figure`: what was tried, what failed.
``tests/test_stress.py`` runs small numbers with the tests; ``benchmarks/stress.py`` (`make stress`) runs them in full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figure:
    """What one kind of fault did.

    Args:
        name: of the figure, as in the result file.
        goal: what must hold, in words.
        tried: how many faults.
        failures: what did not hold, a line each.
        facts: numbers that tell more, such as how many mutants were accepted.
    """

    name: str
    goal: str
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def check(self, good: bool, what: str) -> bool:
        """Note ``what`` as a failure where ``good`` is False."""
        if not good:
            self.failures.append(what)
        return good

    def __str__(self) -> str:
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.facts.items())
        lines = [
            f"{self.name}: {self.tried:,} tried, {len(self.failures)} failed ({self.goal}){'; ' + told if told else ''}"
        ]
        return "\n".join(lines + [f"  FAILED {what}" for what in self.failures[:20]])

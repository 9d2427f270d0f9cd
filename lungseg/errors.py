"""What can be wrong, said for people: which file, what was expected, what was found, what to do.

Every error that a user can cause is a :class:`LungsegError` with a :class:`Problem` in it.  The command line prints
the problem as one line and exits with the error's ``exit_code``; ``--debug`` shows the traceback as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any, ClassVar, Literal, Self

NOTICE = "Research only, not a medical device, not for clinical use."


def printable(name: str | PurePath) -> str:
    """The name with control characters and undecodable bytes escaped, so that it stays on one line of a log."""
    text = str(name).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def counted(count: int, noun: str) -> str:
    """``1 case``, ``2 cases``, ``1,000 cases``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one file.

    Args:
        code: stable short name in kebab-case, for machines (``gzip-truncated``).
        what: what is wrong, in a few words, no full stop.
        expected: what would have been right, with its unit; may be empty.
        found: what was there instead, with its unit; may be empty.
        mend: what the user can do, as a sentence.
        file: the file as the user named it, or relative to the folder that the user named.
        case: name of the case (patient), where one is known.
        severity: an ``error`` makes the case unusable, a ``warning`` does not.
    """

    code: str
    what: str
    expected: str = ""
    found: str = ""
    mend: str = ""
    file: str = ""
    case: str = ""
    severity: Literal["error", "warning"] = "error"

    def at(self, *, file: str | PurePath | None = None, case: str | None = None) -> Problem:
        """The same problem, with the file or the case filled in."""
        return replace(
            self,
            file=self.file if file is None else str(file),
            case=self.case if case is None else case,
        )

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        numbers = "; ".join(
            f"{word} {value}" for word, value in (("expected", self.expected), ("found", self.found)) if value
        )
        where = f"{printable(self.file or self.case)}: " if self.file or self.case else ""
        text = where + printable(self.what) + (f" ({printable(numbers)})" if numbers else "")
        return f"{text}. {printable(self.mend)}" if self.mend else text


class LungsegError(Exception):
    """Base of all errors of this package.

    Args:
        problem: what is wrong.
        stage: the stage that found it (``preprocess``); the command line fills it in where it is empty.

    Attributes:
        others: more problems that are said before this one, where none of many cases could be used.
    """

    exit_code: ClassVar[int] = 1
    others: tuple[Problem, ...] = ()

    def __init__(self, problem: Problem | str, stage: str = "") -> None:
        if isinstance(problem, str):
            # A torch loader hands on a worker's error as text: its traceback, which ends with "<type>: <message>".
            problem = Problem("in-worker", problem.strip().rpartition("\n")[2].partition(": ")[2] or problem)
        super().__init__(problem, stage)
        self.problem = problem
        self.stage = stage

    def __str__(self) -> str:
        return f"{self.stage}: {self.problem}" if self.stage else str(self.problem)

    @classmethod
    def of(cls, code: str, what: str, **fields: Any) -> Self:
        """Short form: ``raise UsageError.of("no-such-file", "there is no such file", file=path)``."""
        stage = fields.pop("stage", "")
        if "file" in fields:
            fields["file"] = str(fields["file"])
        return cls(Problem(code, what, **fields), stage)


class UsageError(LungsegError):
    """A command, argument or setting that can not be meant (exit code 2)."""

    exit_code = 2


class DataError(LungsegError):
    """A scan, label, pair or tree of data that is bad (exit code 3)."""

    exit_code = 3


class IntegrityError(LungsegError):
    """An archive, checkpoint or weights file refused for integrity or security (exit code 4)."""

    exit_code = 4


class MachineError(LungsegError):
    """The machine's fault: disk, memory, a lock, a device, the network (exit code 5)."""

    exit_code = 5


class TrainingError(LungsegError):
    """Training that can not go on, such as a loss that is not a number (exit code 1)."""


def all_failed(problems: Sequence[Problem], exit_code: int, stage: str) -> LungsegError:
    """The error of a stage that no case was left to, with all that is wrong.

    Args:
        problems: at least one of them an error.
        exit_code: of the worst: 5 where the machine kept a case out, else 3.
        stage: that could not be done.
    """
    errors = [problem for problem in problems if problem.severity == "error"]
    error = (MachineError if exit_code == MachineError.exit_code else DataError)(errors[-1], stage)
    error.others = tuple(errors[:-1])
    return error

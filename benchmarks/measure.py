"""Clock and memory for the benchmarks: two things in turns, whole commands, what a tree of processes holds.

Machines are shared and their clocks change, so nothing is judged by seconds: what is compared runs alternately in the
same minutes, each pair gives one ratio, and the median of the ratios is reported with the smallest and the largest.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LUNGSEG = Path(sys.executable).with_name("lungseg")


class Seconds(float):
    """Seconds by the clock that a command took, and its CPU time with that of its children as ``cpu``."""

    cpu: float

    def __new__(cls, wall: float, cpu: float) -> Seconds:
        new = super().__new__(cls, wall)
        new.cpu = max(cpu, 1e-3)
        return new


@dataclass(frozen=True)
class Versus:
    """Times of two things that ran in turns, seconds.

    Args:
        ours: one time a round; of commands, with their CPU time (:class:`Seconds`).
        other: one time a round, of what it is compared with.
    """

    ours: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def cpu_ratio(self) -> float | None:
        """The median ratio of CPU times, which other work on the machine hardly moves; None where none were taken."""
        pairs = [(one, two) for one, two in zip(self.ours, self.other, strict=True) if isinstance(one, Seconds)]
        return statistics.median(two.cpu / one.cpu for one, two in pairs if isinstance(two, Seconds)) if pairs else None

    @property
    def ratios(self) -> list[float]:
        """How many times as long the other one took, one number a round."""
        return [other / ours for ours, other in zip(self.ours, self.other, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        return {
            "ours_s": _rounded(statistics.median(self.ours)),
            "other_s": _rounded(statistics.median(self.other)),
            "ratio": _rounded(statistics.median(self.ratios)),
            "ratio_range": [_rounded(min(self.ratios)), _rounded(max(self.ratios))],
            "rounds": len(self.ours),
            **({} if self.cpu_ratio is None else {"cpu_ratio": _rounded(self.cpu_ratio)}),
        }


def in_turns(
    ours: Callable[[], Any], other: Callable[[], Any], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Versus:
    """Run both ``rounds`` times in turns, the first one changing from round to round.

    Args:
        ours, other: what runs; one that measures itself (a command) returns seconds.
        rounds: how often.
        clock: ``time.process_time`` for what runs in this process on one thread, so that other work does not count.
    """
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for mine in (True, False) if number % 2 else (False, True):
            started = clock()
            value = (ours if mine else other)()
            times[mine].append(value if isinstance(value, float) else clock() - started)
    return Versus(tuple(times[True]), tuple(times[False]))


def command(words: Sequence[str | Path], *, cwd: Path | None = None) -> Seconds:
    """Run a command to its end; its output is shown only where it fails."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, check=False)
    seconds, after = time.perf_counter() - started, os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    if done.returncode:
        raise SystemExit(f"{words} ended with exit code {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    return Seconds(seconds, cpu)


@dataclass(frozen=True)
class Memory:
    """What a command held at most, MB.

    Args:
        process_mb: resident set of its largest process (VmHWM, libraries included).
        tree_mb: proportional set of all its processes at one moment.
    """

    process_mb: float
    tree_mb: float

    def as_dict(self) -> dict[str, float]:
        return {"process_mb": round(self.process_mb, 1), "tree_mb": round(self.tree_mb, 1)}


def memory_of(words: Sequence[str | Path], *, every_s: float = 0.02) -> Memory:
    """Run a command and watch the memory of all its processes."""
    process_kb = tree_kb = 0
    with subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            pids = tree_of(process.pid)
            process_kb = max([process_kb, *(_kilobytes(pid, "status", "VmHWM:") for pid in pids)])
            tree_kb = max(tree_kb, sum(_kilobytes(pid, "smaps_rollup", "Pss:") for pid in pids))
            time.sleep(every_s)
        said = process.stderr.read() if process.stderr is not None else ""
    if process.returncode:
        raise SystemExit(f"{words} ended with exit code {process.returncode}:\n{said}")
    return Memory(process_kb / 1000 * 1.024, tree_kb / 1000 * 1.024)


def tree_of(root: int) -> list[int]:
    """The process and all its descendants."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def bytes_below(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _kilobytes(pid: int, file: str, field: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")

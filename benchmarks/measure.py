"""Clock and memory for the benchmarks: two things in turns, whole commands, what a tree of processes holds.

Machines are shared and their clocks change, so nothing is judged by seconds: what is compared runs alternately in the
same minutes, each pair gives one ratio by the clock and one by CPU time, and the median of the ratios is reported with
the smallest and the largest.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LUNGSEG = Path(sys.executable).with_name("lungseg")


class Seconds(float):
    """Seconds by the clock that something took, and as ``cpu`` its CPU time, of a command with that of its children."""

    cpu: float

    def __new__(cls, wall: float, cpu: float) -> Seconds:
        new = super().__new__(cls, wall)
        new.cpu = max(cpu, 1e-3)
        return new


@dataclass(frozen=True)
class Versus:
    """Times of two things that ran in turns, seconds.

    Args:
        ours: one time a round.
        other: one time a round, of what it is compared with.
    """

    ours: tuple[Seconds, ...]
    other: tuple[Seconds, ...]

    @property
    def ratios(self) -> list[float]:
        """How many times as long the other one took, one number a round."""
        return [other / ours for ours, other in zip(self.ours, self.other, strict=True)]

    @property
    def cpu_ratios(self) -> list[float]:
        """The same by CPU time, which other work on the machine moves less."""
        return [other.cpu / ours.cpu for ours, other in zip(self.ours, self.other, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        return {
            "ours_s": _rounded(statistics.median(self.ours)),
            "other_s": _rounded(statistics.median(self.other)),
            "ratio": _rounded(statistics.median(self.ratios)),
            "ratio_range": [_rounded(min(self.ratios)), _rounded(max(self.ratios))],
            "ours_cpu_s": _rounded(statistics.median(value.cpu for value in self.ours)),
            "other_cpu_s": _rounded(statistics.median(value.cpu for value in self.other)),
            "cpu_ratio": _rounded(statistics.median(self.cpu_ratios)),
            "cpu_ratio_range": [_rounded(min(self.cpu_ratios)), _rounded(max(self.cpu_ratios))],
            "rounds": len(self.ours),
        }


def in_turns(ours: Callable[[], Any], other: Callable[[], Any], rounds: int) -> Versus:
    """Run both ``rounds`` times in turns, the first one changing from round to round.

    Args:
        ours, other: what runs; one that measures itself (a command) returns :class:`Seconds`.
        rounds: how often.
    """
    times: dict[bool, list[Seconds]] = {True: [], False: []}
    for number in range(rounds):
        for mine in (True, False) if number % 2 else (False, True):
            started, cpu = time.perf_counter(), time.process_time()
            value = (ours if mine else other)()
            taken = Seconds(time.perf_counter() - started, time.process_time() - cpu)
            times[mine].append(value if isinstance(value, Seconds) else taken)
    return Versus(tuple(times[True]), tuple(times[False]))


def command(words: Sequence[str | Path], *, more: Mapping[str, str] | None = None) -> Seconds:
    """Run a command to its end, with ``more`` in its environment; its output is shown only where it fails."""
    before, started = os.times(), time.perf_counter()
    environment = {**os.environ, **(more or {})}
    done = subprocess.run([str(word) for word in words], env=environment, capture_output=True, check=False)
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

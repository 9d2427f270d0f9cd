"""Ranks that are started from here: which one is named when one fails, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lungseg.cli import main
from lungseg.errors import DataError, LungsegError, MachineError, Problem
from lungseg.launch import Failure, explained, launch
from lungseg.placement import LOST, Place

from .forked import free_port
from .processed import write_processed

CASES = {f"lung_{number:03d}": [0, 90, 200, 60] for number in range(1, 7)}
GONE = MachineError(Problem(LOST, "another rank is gone"))
BAD = DataError(Problem("torn", "is torn", file="a.npy"), "train")
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc of Linux")


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ([Failure(1, -9), Failure(0, 5, GONE)], "rank 1 was killed by SIGKILL"),
        ([Failure(0, 5, GONE), Failure(1, -9)], "rank 1 was killed by SIGKILL"),
        ([Failure(2, -6), Failure(0, 5, GONE), Failure(1, 3, BAD)], "a.npy: is torn"),
        ([Failure(1, -6), Failure(0, -9)], "rank 0 was killed by SIGKILL"),
        ([Failure(3, -11), Failure(0, -9)], "rank 3 was killed by SIGSEGV"),  # the first of them
        ([Failure(0, 5, GONE), Failure(1, 1, fault="KeyError: 'x'")], "rank 1: KeyError: 'x'"),
        ([Failure(1, 7)], "rank 1 ended early (found exit code 7)"),
        ([Failure(0, 5, GONE), Failure(1, 5, GONE)], "another rank is gone"),
    ],
)
def test_the_rank_that_failed_by_itself_is_named(failures: list[Failure], said: str) -> None:
    error = explained(failures)
    assert said in (str(error.problem) if isinstance(error, LungsegError) else str(error))


def work(deeds: dict[int, str], place: Place) -> None:
    """What a rank does: nothing, or what is said for it; the others would go on for long."""
    deed = deeds.get(place.rank, "wait")
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "raise":
        raise DataError(Problem("torn", f"rank {place.rank}: is torn", file="a.npy"), "train")
    elif deed == "wait":
        time.sleep(900)


@pytest.mark.parametrize(
    ("deed", "kind", "said"), [("kill", MachineError, "rank 2 was killed"), ("raise", DataError, "rank 2")]
)
def test_a_rank_that_fails_ends_the_others(deed: str, kind: type[LungsegError], said: str) -> None:
    started = time.monotonic()
    with pytest.raises(kind, match=said):
        launch(Place(2, nodes=2, node=1, rank=2, url="tcp://nobody:1", starts=True), _Deeds({2: deed}))
    assert time.monotonic() - started < 800
    assert not children(os.getpid())


class _Deeds:
    def __init__(self, deeds: dict[int, str]) -> None:
        self.deeds = deeds

    def __call__(self, place: Place) -> None:
        work(self.deeds, place)


def test_ranks_that_all_end_well_are_no_error() -> None:
    launch(Place(2, starts=True), _Deeds({0: "nothing", 1: "nothing"}))


def children(pid: int) -> list[int]:
    """Ranks that a process has started, in their order."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def command(processed: Path, run: Path, *options: str) -> list[str]:
    settings = "--device cpu --devices 2 --epochs 9 --batch-size 4 --loader-workers 0 --precision 32 --augment none"
    return [sys.executable, "-m", "lungseg.cli", "train", str(processed), str(run), *settings.split(), *options]


def started(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, **quiet)


def after_an_epoch(process: subprocess.Popen[str], run: Path, epochs: int = 1) -> list[int]:
    """The ranks, once an epoch is recorded."""
    deadline = time.monotonic() + 600
    while len((run / "metrics.csv").read_text().split()) <= epochs if (run / "metrics.csv").exists() else True:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    return children(process.pid)


@needs_proc
def test_a_command_names_a_lost_rank_goes_on_and_leaves_no_rank_behind(tmp_path: Path) -> None:
    processed, run = write_processed(tmp_path / "processed", CASES).root, tmp_path / "run"
    process = started(command(processed, run))
    ranks = after_an_epoch(process, run)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == MachineError.exit_code
    assert errors.splitlines()[-1].startswith("lungseg train: rank 1 was killed by SIGKILL")

    process = started(command(processed, run, "--resume"))
    ranks = after_an_epoch(process, run, epochs=2)
    process.terminate()
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 143 and "--resume goes on" in errors
    assert not [rank for rank in ranks if Path(f"/proc/{rank}").exists()]
    assert not list(run.rglob(".lungseg-partial-*"))


def test_a_plain_start_on_each_of_two_nodes(tmp_path: Path) -> None:
    processed, run = write_processed(tmp_path / "processed", CASES).root, tmp_path / "run"
    settings = [
        "--device",
        "cpu",
        "--nodes",
        "2",
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--loader-workers",
        "0",
        "--precision",
        "32",
    ]
    arguments = [sys.executable, "-m", "lungseg.cli", "train", str(processed), str(run), *settings]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    nodes = [started(arguments, NODE_RANK=str(node), **meeting) for node in (1, 0)]
    said = [node.communicate(timeout=600) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert [output.count("1 epochs in") for output, _ in said] == [0, 1]  # rank 0 alone speaks
    assert [errors.count("epoch 1/1") for _, errors in said] == [0, 1]


def test_an_error_of_rank_0_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    processed, run = write_processed(tmp_path / "processed", CASES).root, tmp_path / "run"
    run.mkdir()
    (run / "crossval.json").write_text("{}")
    assert main(command(processed, run)[3:]) == 2
    assert capfd.readouterr().err.count("holds a cross-validated run already") == 1

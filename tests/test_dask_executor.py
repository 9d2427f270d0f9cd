"""A real Dask cluster as an executor: separate processes, killed workers, a poison case, a scheduler that goes away."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import distributed  # noqa: F401 - whose defaults must be there before any is changed
import pytest

from lungseg.cluster import cluster_executor
from lungseg.dask_executor import DaskExecutor
from lungseg.errors import DataError, MachineError, UsageError
from lungseg.executor import run_cases

from .cluster_tasks import bound_of, leave_mark
from .dask_processes import MEMORY, DaskProcesses
from .test_executor import by_case, work


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with DaskProcesses(tmp_path_factory.mktemp("dask")) as processes:
        yield processes


def marks(folder: Path, what: str) -> int:
    return len(list(folder.glob(f"{what}-*")))


def test_outcomes_errors_and_faults_are_those_of_one_machine(cluster: DaskProcesses) -> None:
    tasks = {"a": "bad", "b": "b", "c": "refused", "d": "hungry", "e": "e"}
    here = by_case(run_cases(work, tasks, workers=1))
    with cluster_executor(cluster.address) as executor:
        there = by_case(run_cases(work, tasks, executor=executor))
        assert {case: outcome.result for case, outcome in there.items()} == {
            case: outcome.result for case, outcome in here.items()
        }
        for case in "acd":
            mine, other = here[case].error, there[case].error
            assert type(mine) is type(other) and mine.problem == other.problem and mine.stage == other.stage
        assert type(there["a"].error) is DataError
        with pytest.raises(ZeroDivisionError, match="a fault of the package"):
            list(run_cases(work, {"a": "bug", "b": "b"}, executor=executor))


def test_every_worker_has_one_case_at_a_time_in_the_memory_it_was_given(cluster: DaskProcesses, tmp_path: Path) -> None:
    with cluster_executor(cluster.address) as executor:
        tasks = {str(number): (str(tmp_path), 0.2, f"case{number}") for number in range(8)}
        done = by_case(run_cases(leave_mark, tasks, executor=executor))
        assert len({outcome.result[1] for outcome in done.values()}) == 2
        begun: dict[str, list[int]] = {}
        for path in tmp_path.iterdir():
            _, at, pid = path.name.split("-")
            begun.setdefault(pid, []).append(int(at))
        for times in begun.values():
            ordered = sorted(times)
            assert all(after - before > 0.19e9 for before, after in itertools.pairwise(ordered))
        assert next(iter(by_case(run_cases(bound_of, {"a": 0}, executor=executor)).values())).result == MEMORY


def test_a_dead_workers_case_is_done_by_another_and_poison_is_set_aside_after_two(
    cluster: DaskProcesses, tmp_path: Path
) -> None:
    names = ["one", "once1", "two", "poison", "three", "four"]
    tasks = {name: (str(tmp_path), 0.05, name) for name in names}
    with cluster_executor(cluster.address) as executor:
        done = by_case(run_cases(leave_mark, tasks, executor=executor))
    assert sorted(done) == sorted(names)
    error = done.pop("poison").error
    assert type(error) is MachineError and error.problem.code == "worker-died" and error.problem.case == "poison"
    assert "twice" in str(error)
    assert {name: outcome.error for name, outcome in done.items()} == dict.fromkeys(done)
    assert {name: outcome.result[0] for name, outcome in done.items()} == {name: name for name in done}
    assert (marks(tmp_path, "poison"), marks(tmp_path, "once1")) == (2, 2)


def test_no_gpu_among_the_workers_is_said_and_auto_does_without(cluster: DaskProcesses) -> None:
    with pytest.raises(UsageError, match="GPU=1"), cluster_executor(cluster.address, device="cuda"):
        pass
    with cluster_executor(cluster.address, device="auto") as executor:
        assert by_case(run_cases(work, {"b": "b"}, executor=executor))["b"].result == "b done"


def test_another_version_on_a_worker_is_refused(cluster: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungseg.dask_executor.__version__", "0.0.0")
    with cluster_executor(cluster.address) as executor, pytest.raises(MachineError, match="another version"):
        list(run_cases(work, {"b": "b"}, executor=executor))


def test_cases_that_have_not_begun_are_dropped_when_the_caller_stops(cluster: DaskProcesses, tmp_path: Path) -> None:
    tasks = {str(number): (str(tmp_path), 0.1, f"case{number}") for number in range(50)}
    with cluster_executor(cluster.address) as executor:
        outcomes = run_cases(leave_mark, tasks, executor=executor)
        next(outcomes)
        outcomes.close()
    time.sleep(0.5)
    assert marks(tmp_path, "case*") < 10


def test_a_scheduler_that_is_started_again_gets_what_is_left(tmp_path: Path) -> None:
    scratch = tmp_path / "marks"
    scratch.mkdir()
    tasks = {str(number): (str(scratch), 0.1, f"case{number}") for number in range(30)}
    with DaskProcesses(tmp_path / "dask", workers=1, nanny=False) as processes:

        def restart() -> None:
            while marks(scratch, "case*") < 3:
                time.sleep(0.05)
            processes.kill_scheduler()
            processes.start_scheduler()
            processes.start_worker()

        helper = threading.Thread(target=restart)
        with cluster_executor(processes.address) as executor:
            helper.start()
            done = by_case(run_cases(leave_mark, tasks, executor=executor))
        helper.join()
    assert {case: outcome.error for case, outcome in done.items()} == dict.fromkeys(tasks)
    twice = sum(marks(scratch, f"case{number}") > 1 for number in range(30))
    assert twice <= 1  # only the case that was at hand


def test_a_scheduler_that_stays_away_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DaskProcesses(tmp_path / "dask", workers=1, nanny=False) as processes:
        executor = DaskExecutor(processes.address, patience_s=1.0)
        future = executor.submit(leave_mark, (str(tmp_path), 20.0, "case"))
        while marks(tmp_path, "case") < 1:
            time.sleep(0.05)
        monkeypatch.setattr("lungseg.dask_client.CONNECT_S", 1.0)
        processes.scheduler.kill()
        with pytest.raises(MachineError, match="does not answer"):
            future.result(60)
        with pytest.raises(RuntimeError, match="shut down"):
            executor.submit(work, "b")
        executor.shutdown()
        for worker in processes.workers:
            worker.kill()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*words, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_tls_lets_in_who_has_the_certificate_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungseg.dask_client.CONNECT_S", 10.0)
    own, other = certificate(tmp_path, "own"), certificate(tmp_path, "other")
    with DaskProcesses(tmp_path / "dask", workers=1, nanny=False, tls=own) as processes:
        for paths, refused in ((own, False), (other, True)):
            names = {"ca-file": paths[0], "client.cert": paths[0], "client.key": paths[1]}
            with dask.config.set({f"distributed.comm.tls.{name}": str(path) for name, path in names.items()}):
                if refused:
                    with pytest.raises(MachineError, match="does not answer"), cluster_executor(processes.address):
                        pass
                    continue
                with cluster_executor(processes.address) as executor:
                    assert by_case(run_cases(work, {"b": "b"}, executor=executor))["b"].result == "b done"

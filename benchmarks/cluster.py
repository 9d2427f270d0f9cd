"""Scans on a cluster: what `make bench-cluster` runs.  Every run is compared byte for byte with one machine's tree.

A scheduler and its workers are separate processes of this machine, started as docs/clusters.md says.  Writes
results/cluster.json, and the table of docs/clusters.md from there.

    python benchmarks/cluster.py [--scans FOLDER] [--runs plain killed ...]
    python benchmarks/cluster.py write     the table again

Runs: 64 phantoms on 3 workers (``plain``), with a worker killed by SIGKILL (``killed``), with the scheduler killed and
started again (``restarted``), with a scan that kills whoever opens it (``poison``), on hosts of their own (``hosts``);
``throughput`` of 1 and 2 workers in turns, the ``overhead`` of a case, and the time of single ``cases``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import cluster_hosts  # noqa: E402
import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
from cluster_table import RESULT, write  # noqa: E402
from figures import machine  # noqa: E402

from lungseg.cluster import cluster_executor  # noqa: E402
from lungseg.config import PreprocessConfig  # noqa: E402
from lungseg.executor import run_cases  # noqa: E402
from lungseg.nifti import read_scan  # noqa: E402
from lungseg.preprocess import _one_case, _task, preprocess  # noqa: E402
from lungseg.records import read_json, write_json  # noqa: E402
from lungseg.sample import write_sample  # noqa: E402
from lungseg.tree import read_tree  # noqa: E402
from tests.dask_processes import DaskProcesses  # noqa: E402
from tests.volumes import tree_bytes  # noqa: E402

SCANS, SHAPE, WORKERS = 64, (96, 96, 48), 3
LARGE, TIMES, TURNS = 6, (5, 5, 4), 3  # scans of a real size for the throughput: phantoms enlarged; each so often
POISON = "lung_060"
# A virtual machine may give back to its host what was freed, and pay again for each page that it gets: after this wait
# 1 and 2 workers both do.
SETTLE_S = 10.0
# What a poison scan does: sitecustomize.py of every Python process of that run.
HOOK = f"""
import os, signal, sys
def kill(event, arguments):
    if event == "open" and str(arguments[0]).endswith("imagesTr/{POISON}.nii.gz"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
"""
SIZE = ["--size", "128", "--skip-slices", "0"]


class Bench:
    """The runs, all on the same scans."""

    def __init__(self, folder: Path, scans: Path) -> None:
        self.folder, self.scans = folder, scans

    def preprocess(self, name: str, *words: str, prefix: list[str] | None = None, code: int = 0, **env: str) -> float:
        """Run the command into a folder of that name; returns seconds."""
        command = [*(prefix or []), sys.executable, "-m", "lungseg.cli", "preprocess"]
        started = time.monotonic()
        done = subprocess.run(
            [*command, str(self.scans), str(self.folder / name), *SIZE, *words],
            cwd=HERE.parent,
            env={**os.environ, "PYTHONPATH": str(HERE.parent), **env},
            capture_output=True,
            text=True,
        )
        if done.returncode != code:
            raise SystemExit(f"{name} ended with code {done.returncode}:\n{done.stderr[-3000:]}")
        return time.monotonic() - started

    def same(self, name: str, wanted: str = "one") -> bool:
        return tree_bytes(self.folder / name) == tree_bytes(self.folder / wanted)

    def done_in(self, name: str) -> int:
        return len(list((self.folder / name).glob("*/case.json")))

    def beside(self, name: str, least: int, act: Callable[[], None]) -> threading.Thread:
        """Do something once so many cases of a run are there."""

        def wait() -> None:
            while self.done_in(name) < least:
                time.sleep(0.05)
            act()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    def plain(self) -> dict[str, Any]:
        with DaskProcesses(self.folder / "dask", WORKERS) as dask:
            seconds = self.preprocess("plain", "--cluster", dask.address)
            again = self.preprocess("plain", "--cluster", dask.address)
        return {"same_bytes": self.same("plain"), "seconds": seconds, "rerun_seconds": again}

    def killed(self) -> dict[str, Any]:
        with DaskProcesses(self.folder / "dask-killed", WORKERS, nanny=False) as dask:
            thread = self.beside("killed", 10, dask.workers[0].kill)
            self.preprocess("killed", "--cluster", dask.address)
            thread.join()
            return {"same_bytes": self.same("killed"), "workers_left": sum(w.poll() is None for w in dask.workers)}

    def restarted(self) -> dict[str, Any]:
        with DaskProcesses(self.folder / "dask-restarted", WORKERS, nanny=False) as dask:
            done: list[int] = []

            def restart() -> None:
                dask.kill_scheduler()
                done.append(self.done_in("restarted"))
                dask.start_scheduler()
                for _ in range(WORKERS):
                    dask.start_worker()

            thread = self.beside("restarted", 10, restart)
            self.preprocess("restarted", "--cluster", dask.address)
            thread.join()
        return {"same_bytes": self.same("restarted"), "done_when_it_died": done[0]}

    def poison(self) -> dict[str, Any]:
        hook = self.folder / "hook"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(HOOK)
        path = os.pathsep.join([str(hook), str(HERE.parent)])
        self.preprocess("poison-one", "--workers", "2", code=5, PYTHONPATH=path)
        with _environment(PYTHONPATH=path), DaskProcesses(self.folder / "dask-poison", WORKERS) as dask:
            self.preprocess("poison", "--cluster", dask.address, code=5)
            deaths = sum(path.read_text().count("Restarting worker") for path in dask.folder.glob("*.log"))
        failed = read_json(self.folder / "poison" / "manifest.json")["failed"]
        return {"same_bytes": self.same("poison", "poison-one"), "set_aside": sorted(failed), "workers_killed": deaths}

    def hosts(self) -> dict[str, Any]:
        if not cluster_hosts.possible():
            return {"skipped": "this system lets nobody make a network namespace"}
        count = WORKERS + 1
        with cluster_hosts.hosts(count):
            dask = DaskProcesses(
                self.folder / "dask-hosts",
                WORKERS,
                host=cluster_hosts.address(0),
                prefix=[cluster_hosts.inside(number) for number in range(count)],
                hosts=[cluster_hosts.address(number) for number in range(1, count)],
            )
            with dask:
                self.preprocess("hosts", "--cluster", dask.address, prefix=cluster_hosts.inside(0))
        return {"same_bytes": self.same("hosts"), "hosts": count}

    def throughput(self, rounds: int = 5) -> dict[str, Any]:
        """Seconds that 1 and 2 workers, of a core each, take for the same large scans, in turns; start-up left out."""
        tree = read_tree(large(self.scans, self.folder / "large"))
        config, load = PreprocessConfig(skip_slices="0"), os.getloadavg()[0]
        seconds: dict[int, list[float]] = {1: [], 2: []}
        others = []
        pinned = [[], *(["taskset", "-c", str(core)] for core in sorted(os.sched_getaffinity(0))[:2])]
        for number in range(rounds):
            for workers in (1, 2) if number % 2 else (2, 1):
                folder = self.folder / f"dask-{workers}-{number}"
                with DaskProcesses(folder, workers, prefix=pinned) as dask, cluster_executor(dask.address) as executor:
                    seen: set[int] = set()
                    while len(seen) < workers:  # all have started, and have loaded what they need
                        warm = {str(n): tree.cases[0].image for n in range(2 * workers)}
                        seen |= {outcome.result for outcome in run_cases(_warm, warm, executor=executor)}
                    tasks = {
                        f"{case.name}-{turn}": _task(case, tree, folder / f"out-{turn}", config, shared=True)
                        for turn in range(TURNS)
                        for case in tree.cases
                    }
                    os.sync()
                    time.sleep(SETTLE_S)
                    before = busy_seconds(), own_seconds(dask)
                    started = time.monotonic()
                    assert not [o for o in run_cases(_one_case, tasks, executor=executor) if o.error]
                    seconds[workers].append(time.monotonic() - started)
                    used = busy_seconds() - before[0], own_seconds(dask) - before[1]
                    others.append(max(0.0, used[0] - used[1]) / used[0])
                shutil.rmtree(folder)
        ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
        return {
            "scans": LARGE * TURNS,
            "seconds_1": _rounded(seconds[1]),
            "seconds_2": _rounded(seconds[2]),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
            "load_before": round(load, 1),
            "share_of_others": [round(share, 2) for share in others],
        }

    def overhead(self, cases: int = 200, rounds: int = 5) -> dict[str, Any]:
        """Time of a case that does nothing, on one worker: what the cluster adds to each."""
        with DaskProcesses(self.folder / "dask-overhead", 1) as dask, cluster_executor(dask.address) as executor:
            tasks = {str(number): 0.0 for number in range(cases)}
            list(run_cases(_process, tasks, executor=executor))  # until the worker has started
            times = []
            before = cpu_seconds(dask.scheduler.pid), time.process_time()
            for _ in range(rounds):
                started = time.monotonic()
                assert len(list(run_cases(_process, tasks, executor=executor))) == cases
                times.append((time.monotonic() - started) / cases * 1000)
            after = cpu_seconds(dask.scheduler.pid), time.process_time()
        return {
            "cases": cases,
            "ms_quickest": round(min(times), 1),
            "ms_median": round(statistics.median(times), 1),
            "scheduler_cpu_ms": round((after[0] - before[0]) / (cases * rounds) * 1000, 2),
            "command_cpu_ms": round((after[1] - before[1]) / (cases * rounds) * 1000, 2),
        }

    def cases(self, rounds: int = 2) -> dict[str, Any]:
        """CPU time of each large scan by itself, and what it writes: how much cases differ."""
        scans = large(self.scans, self.folder / "large")
        seconds, written = [], []
        for number in range(1, LARGE + 1):
            root = self.folder / f"single-{number}"
            for kind in ("imagesTr", "labelsTr"):
                (root / kind).mkdir(parents=True)
                os.link(scans / kind / f"lung_{number:03d}.nii.gz", root / kind / f"lung_{number:03d}.nii.gz")
            for turn in range(rounds):
                out = self.folder / f"single-out-{number}-{turn}"
                started = time.process_time()
                preprocess(root, out, skip_slices=0, workers=1)
                seconds.append(round(time.process_time() - started, 3))
                written.append(sum(path.stat().st_size for path in out.rglob("*.npy")))
        shape = [size * times for size, times in zip(SHAPE, TIMES, strict=True)]
        return {"shape": shape, "cpu_s": seconds, "bytes_written": int(statistics.mean(written))}


RUNS = ("plain", "killed", "restarted", "poison", "hosts", "throughput", "overhead", "cases")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """CPU time that all processes of this machine have taken."""
    user, nice, system, _, _, *more = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")


def own_seconds(dask: DaskProcesses) -> float:
    """CPU time that this process, the scheduler and the workers have taken, with the workers' nannies."""
    sessions = {process.pid for process in (dask.scheduler, *dask.workers)}
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    total = time.process_time()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            total += cpu_seconds(pid) if os.getsid(pid) in sessions else 0.0
    return total


def _process(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def _warm(scan: Path) -> int:
    read_scan(scan)
    return os.getpid()


def large(scans: Path, out: Path) -> Path:
    """Scans of 480 x 480 x 192 voxels from the first phantoms, each voxel repeated, with noise of their own."""
    for number in range(1, LARGE + 1):
        for kind in ("imagesTr", "labelsTr"):
            (out / kind).mkdir(parents=True, exist_ok=True)
            path = out / kind / f"lung_{number:03d}.nii.gz"
            if path.exists():
                continue
            source = nib.load(scans / kind / path.name)
            voxels = np.asarray(source.dataobj)
            for axis, times in enumerate(TIMES):
                voxels = np.repeat(voxels, times, axis=axis)
            if kind == "imagesTr":
                noise = np.random.default_rng(number).normal(0, 20, voxels.shape)
                voxels = np.clip(voxels + noise, -1024, 3071).astype(np.int16)
            affine = source.affine @ np.diag([*(1 / times for times in TIMES), 1])
            nib.save(nib.Nifti1Image(voxels, affine), path)
    return out


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 1) for value in values]


def measure(scans: Path | None, runs: list[str]) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = scans or write_sample(folder / "scans", cases=SCANS, test_cases=0, shape=SHAPE)
        bench = Bench(folder, root)
        one = round(bench.preprocess("one", "--workers", "1"), 1)
        before = read_json(RESULT)["runs"] if RESULT.is_file() else {}
        for run in runs:
            done = {"date": datetime.date.today().isoformat(), "cpu": machine()["cpu"], **getattr(bench, run)()}
            print(run, done, flush=True)
            before = {**before, run: {key: round(v, 2) if type(v) is float else v for key, v in done.items()}}
            content = {
                "what": f"{SCANS} phantoms of {' x '.join(map(str, SHAPE))}, {WORKERS} workers of one thread",
                "machine": machine(),
                "one_machine_seconds": one,
                "runs": {key: before[key] for key in RUNS if key in before},
            }
            write_json(RESULT, content)
    write()
    return 0 if all(run.get("same_bytes", True) for run in before.values()) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("measure", "write"), default="measure")
    parser.add_argument("--scans", type=Path, help="phantoms that are there already, as this command makes them")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    args = parser.parse_args()
    if args.what == "write":
        write()
        return 0
    return measure(args.scans, args.runs)


if __name__ == "__main__":
    sys.exit(main())

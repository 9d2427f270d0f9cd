"""Runs of several ranks for tests: forked from one process that has loaded torch, because a fork costs no loading.

What torchrun says to each rank in its environment is said here; the ranks themselves are what they are anywhere.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from lungseg.config import Recipe, to_dict

FORKER = """
import json, os, signal, sys
import torch
import torch._dynamo
from lungseg.callbacks import EndOfRun
from lungseg.config import recipe_from_dict
from lungseg.train import train

def killed_after(steps):
    original, calls = EndOfRun.on_train_batch_end, iter(range(1, 100000))
    def ended(*given):
        original(*given)
        if next(calls) == steps:
            os.kill(os.getpid(), signal.SIGKILL)
    EndOfRun.on_train_batch_end = ended

def rank(job, number):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (number, number, job["ranks"], "127.0.0.1", job["port"])
    os.environ.update(zip(names, map(str, values)))
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    if job["kill"] == number:
        killed_after(job["steps"])
    settings = {**job["settings"], "recipe": recipe_from_dict(job["settings"]["recipe"])}
    train(job["processed"], job["run"], devices=job["ranks"], device="cpu", **settings)

for job in json.loads(sys.argv[1]):
    pids = []
    for number in range(job["ranks"]):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        code = 7
        try:
            rank(job, number)
            code = 0
        except BaseException as error:
            print(number, getattr(error, "problem", repr(error)), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids], flush=True)
"""


def job(processed: Path, run: Path, ranks: int, recipe: Recipe, *, kill: int = -1, steps: int = 0, **settings: Any):  # type: ignore[no-untyped-def]
    """One run of ``ranks`` processes; rank ``kill`` is killed after so many ``steps``."""
    return {
        "processed": str(processed),
        "run": str(run),
        "ranks": ranks,
        "kill": kill,
        "steps": steps,
        "port": free_port(),
        "settings": {"recipe": to_dict(recipe), "workers": 0, **settings},
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_jobs(jobs: list[dict[str, Any]]) -> str:
    """Do the jobs one after another, check how their ranks end, and return what they said on standard error."""
    command = [sys.executable, "-c", FORKER, json.dumps(jobs)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    codes = [json.loads(line) for line in ended.stdout.splitlines()]
    for one, found in zip(jobs, codes, strict=True):
        if one["kill"] < 0:
            assert found == [0] * one["ranks"], ended.stderr[-3000:]
        else:
            assert found[one["kill"]] == -signal.SIGKILL and 0 not in found, ended.stderr[-3000:]
    return ended.stderr

"""Ranks that torchrun starts, one of them killed, and then srun: the run that ``lungseg train`` makes by itself."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from .forked import free_port
from .processed import write_processed
from .test_launch import CASES, after_an_epoch, command, needs_proc, started
from .training import same_weights

ONE_NODE = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
# What srun tells two tasks of one node, but for their numbers.
JOB = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "lungseg",
}


def torchrun(words: list[str]) -> list[str]:
    """A command of this package under torchrun, two processes of this node."""
    meet = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    return [sys.executable, "-m", "torch.distributed.run", *meet, *words[1:]]


def ranks_of(pid: int) -> dict[str, int]:
    """Processes that torchrun has started, by the rank that it told them."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        told = Path(f"/proc/{child}/environ").read_text().split("\0")
        found |= {line.removeprefix("RANK="): int(child) for line in told if line.startswith("RANK=")}
    return found


@needs_proc
def test_a_run_that_torchrun_began_and_srun_ended_is_that_of_one_command(tmp_path: Path) -> None:
    processed, run = write_processed(tmp_path / "processed", CASES).root, tmp_path / "run"
    plain = started([*command(processed, tmp_path / "plain"), "--epochs", "2"])
    _, errors = plain.communicate(timeout=600)
    assert plain.returncode == 0, errors

    words = [*command(processed, run), "--epochs", "2"]
    first = started(torchrun(words), **ONE_NODE)
    after_an_epoch(first, run)
    ranks = ranks_of(first.pid)
    os.kill(ranks["1"], signal.SIGKILL)
    _, errors = first.communicate(timeout=600)
    assert sorted(ranks) == ["0", "1"] and first.returncode != 0
    assert "local_rank: 1" in errors and "SIGKILL" in errors
    assert not [pid for pid in ranks.values() if Path(f"/proc/{pid}").exists()]

    port = str(free_port())
    tasks = [
        started([*words, "--resume"], SLURM_PROCID=task, SLURM_LOCALID=task, MASTER_PORT=port, **JOB, **ONE_NODE)
        for task in ("0", "1")
    ]
    said = [task.communicate(timeout=600) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert [output.count("epochs in") for output, _ in said] == [1, 0]  # rank 0 alone speaks
    assert same_weights(run / "checkpoints/last.ckpt", tmp_path / "plain/checkpoints/last.ckpt")

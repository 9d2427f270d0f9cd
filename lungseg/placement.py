"""Where a process of a run stands: by itself, starting others, or one of them, by torchrun or Slurm.

A run on N devices of each of M nodes is N x M processes.  They come about in three ways: ``lungseg train`` starts the N
of its own node (with more than one node, it is given on each); torchrun starts them all; or srun does.  torchrun and
srun say in the environment which process is which, by the names that are read here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import LungsegError, UsageError

LOST = "lost-rank"  # code of an error that only follows from another rank's
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MOST_DEVICES, MOST_NODES = 64, 4096  # a process each, which a slip of the keyboard must not start without end


@dataclass(frozen=True)
class Place:
    """One process among those of a run.

    Args:
        devices: processes of each node.
        nodes: number of nodes.
        node: number of this node, from 0.
        rank: of this process, from 0; 0 also for one that only starts the others.
        local_rank: the same among those of its node.
        url: where the processes meet, as torch takes it; empty where this one is alone, or starts others of one node
            only.
        starts: whether it starts those of its node, and trains nothing itself.
    """

    devices: int = 1
    nodes: int = 1
    node: int = 0
    rank: int = 0
    local_rank: int = 0
    url: str = ""
    starts: bool = False

    @property
    def size(self) -> int:
        """Processes of all nodes."""
        return self.devices * self.nodes


def find_place(
    devices: int | None = None, nodes: int | None = None, environment: Mapping[str, str] = os.environ
) -> Place:
    """Where this process stands.

    Args:
        devices, nodes: as for :func:`lungseg.train.train`; with one of each, or None, it is alone, whatever the
            environment says.
        environment: what torchrun, Slurm or the user have set.

    Raises:
        UsageError: the environment does not fit them.
    """
    devices, nodes = devices or 1, nodes or 1
    for name, number, most in (("devices", devices, MOST_DEVICES), ("nodes", nodes, MOST_NODES)):
        if type(number) is not int or not 1 <= number <= most:
            expected = f"a whole number of 1 to {most}"
            what = f"the setting {name} can not be meant"
            raise UsageError.of("bad-setting", what, expected=expected, found=str(number))
    if devices * nodes == 1:
        return Place()
    if "TORCHELASTIC_RUN_ID" in environment or all(name in environment for name in TORCHRUN):
        return _of_torchrun(devices, nodes, environment)
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        place = _of_slurm(devices, nodes, environment)
        if place is not None:
            return place
    if nodes == 1:
        return Place(devices, starts=True)
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        mend = "Start by torchrun or srun; or set NODE_RANK (0 first), MASTER_ADDR and MASTER_PORT on each node."
        what = "nothing says how the nodes find each other"
        raise UsageError.of("no-nodes", what, expected="an environment with " + ", ".join(missing), mend=mend)
    node = _number(environment, "NODE_RANK")
    if node >= nodes:
        raise _unfit(f"NODE_RANK of 0 to {nodes - 1}", f"NODE_RANK {node}")
    url = f"tcp://{environment['MASTER_ADDR']}:{_number(environment, 'MASTER_PORT')}"
    return Place(devices, nodes, node, rank=node * devices, url=url, starts=True)


def _of_torchrun(devices: int, nodes: int, environment: Mapping[str, str]) -> Place:
    size, local = _number(environment, "WORLD_SIZE"), _number(environment, "LOCAL_WORLD_SIZE", str(devices))
    if size != devices * nodes or local != devices:
        raise _unfit(f"{devices} x {nodes} processes", f"{size} by torchrun, {local} of them on this node")
    rank, local_rank = _number(environment, "RANK"), _number(environment, "LOCAL_RANK")
    return Place(devices, nodes, rank // devices, rank, local_rank, "env://")


def _of_slurm(devices: int, nodes: int, environment: Mapping[str, str]) -> Place | None:
    """One of srun's tasks: a rank where there is a task for each, else what starts those of its node; None for what is
    not of srun (an allocation of one task)."""
    tasks = _number(environment, "SLURM_NTASKS")
    if tasks == 1 and nodes == 1:
        return None
    if tasks not in (devices * nodes, nodes):
        raise _unfit(f"{devices * nodes} tasks, or one for each of {nodes} nodes", f"SLURM_NTASKS {tasks}")
    node, rank = _number(environment, "SLURM_NODEID"), _number(environment, "SLURM_PROCID")
    url = f"tcp://{_slurm_address()}"
    if tasks == nodes and devices > 1:
        return Place(devices, nodes, node, node * devices, 0, url, starts=True)
    return Place(devices, nodes, node, rank, _number(environment, "SLURM_LOCALID"), url)


def _slurm_address() -> str:
    """Host and port of the first task, as Lightning takes them from the list of nodes and the number of the job."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    try:
        slurm = SLURMEnvironment(auto_requeue=False)
    except RuntimeError as cause:  # --ntasks without --ntasks-per-node
        raise _unfit("--ntasks-per-node", "--ntasks alone") from cause
    return f"{slurm.main_address}:{slurm.main_port}"


def _number(environment: Mapping[str, str], name: str, default: str = "") -> int:
    text = environment.get(name, default)
    if not text.isdecimal():
        raise _unfit(f"{name} as a whole number", text or "none")
    return int(text)


def _unfit(expected: str, found: str) -> LungsegError:
    mend = "Let --devices (of each node) and --nodes say what was started."
    what = "--devices and --nodes do not fit what started this process"
    return UsageError.of("unfit-ranks", what, expected=expected, found=found, mend=mend)

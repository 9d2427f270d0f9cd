"""Which process of a run this is, from what torchrun, Slurm or the user say in the environment."""

from __future__ import annotations

import pytest
import torch

from lungseg.config import RECIPES
from lungseg.errors import MachineError, UsageError
from lungseg.parallel import check_place, check_shares
from lungseg.placement import Place, find_place

TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "a",
    "MASTER_PORT": "1",
    "GROUP_RANK": "1",
}
SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}
NODE = {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
CPU = torch.device("cpu")


@pytest.mark.parametrize("environment", [{}, TORCHRUN, SLURM, NODE])
def test_one_device_of_one_node_is_alone_whatever_the_environment_says(environment: dict[str, str]) -> None:
    assert find_place(environment=environment) == find_place(1, 1, environment) == Place()
    assert Place().size == 1 and not Place().starts


def test_a_plain_start_on_one_node_starts_its_ranks() -> None:
    assert find_place(3, None, {}) == Place(devices=3, starts=True)
    assert find_place(3, 1, NODE) == Place(devices=3, starts=True)
    assert find_place(3, 1, {"SLURM_NTASKS": "1"}) == Place(devices=3, starts=True)  # in an sbatch script, without srun


def test_a_plain_start_on_each_node_takes_its_number_from_the_environment() -> None:
    expected = Place(2, 3, node=1, rank=2, url="tcp://10.0.0.1:29500", starts=True)
    assert find_place(2, 3, NODE) == expected and expected.size == 6
    with pytest.raises(UsageError, match="NODE_RANK of 0 to 1"):
        find_place(1, 2, {**NODE, "NODE_RANK": "2"})
    with pytest.raises(UsageError, match="MASTER_ADDR, MASTER_PORT"):
        find_place(2, 2, {"NODE_RANK": "0"})


def test_ranks_of_torchrun() -> None:
    assert find_place(2, 2, TORCHRUN) == Place(2, 2, node=1, rank=3, local_rank=1, url="env://")
    with pytest.raises(UsageError, match=r"expected 2 x 4 processes; found 4 by torchrun"):
        find_place(2, 4, TORCHRUN)
    with pytest.raises(UsageError, match="2 of them on this node"):
        find_place(4, 1, {**TORCHRUN, "LOCAL_WORLD_SIZE": "2"})
    with pytest.raises(UsageError, match="WORLD_SIZE as a whole number; found many"):
        find_place(2, 2, {**TORCHRUN, "WORLD_SIZE": "many"})


def test_tasks_of_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    # Lightning reads the job's nodes and number from the real environment.
    environment = {**SLURM, "SLURM_NODELIST": "node[7-8]", "SLURM_JOB_ID": "120042"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert find_place(2, 2, environment) == Place(2, 2, node=1, rank=3, local_rank=1, url="tcp://node7:15042")
    one_a_node = {**environment, "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    assert find_place(2, 2, one_a_node) == Place(2, 2, node=1, rank=2, url="tcp://node7:15042", starts=True)
    with pytest.raises(UsageError, match="expected 8 tasks, or one for each of 4 nodes; found SLURM_NTASKS 2"):
        find_place(2, 4, one_a_node)
    assert find_place(2, 1, {**environment, "SLURM_JOB_NAME": "bash"}).starts
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(UsageError, match="expected --ntasks-per-node"):
        find_place(2, 2, environment)


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", 10**30])
def test_numbers_that_can_not_be_meant(number: object) -> None:
    with pytest.raises(UsageError, match="devices can not be meant"):
        find_place(number or -1, 1, {})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nodes can not be meant"):
        find_place(1, number or -1, {})  # type: ignore[arg-type]


def test_what_several_devices_can_not_be() -> None:
    check_place(Place(), torch.device("mps"))
    for device in ("cuda:1", "mps"):
        with pytest.raises(UsageError, match="can not be this one"):
            check_place(Place(2), torch.device(device))
    if torch.cuda.device_count() < 99:
        with pytest.raises(MachineError, match="expected 99 GPUs"):
            check_place(Place(99), torch.device("cuda"))


def test_what_several_processes_can_not_train() -> None:
    classic, demo = RECIPES["classic"], RECIPES["demo"]
    check_shares(Place(8), CPU, classic)
    check_shares(Place(), CPU, demo)
    check_shares(Place(2), torch.device("cuda"), demo)
    with pytest.raises(UsageError, match="expected batch_size of 9 or more; found 8"):
        check_shares(Place(3, 3), CPU, classic)
    with pytest.raises(UsageError, match="SyncBatchNorm"):
        check_shares(Place(2), CPU, demo)

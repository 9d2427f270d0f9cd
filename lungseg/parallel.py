"""Training on several devices: what is possible where, and how Lightning is told."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from .config import Recipe
from .errors import MachineError, UsageError
from .placement import Place
from .saving import VerifiedIO


def check_place(place: Place, device: torch.device) -> None:
    """Check that a node has the devices.

    Args:
        place: of this process.
        device: as the user named it.

    Raises:
        UsageError: one device is named where several are wanted, or there can not be several.
        MachineError: there are fewer.
    """
    if place.size == 1:
        return
    if device.index is not None or device.type == "mps":
        expected = "cpu or cuda" if device.type == "mps" else "a kind of device: cuda"
        mend = "Leave --device out, or leave --devices and --nodes out."
        what = "several devices can not be this one"
        raise UsageError.of("one-device", what, expected=expected, found=str(device), mend=mend)
    if device.type == "cuda" and torch.cuda.device_count() < place.devices:
        expected, found = f"{place.devices} GPUs", f"{torch.cuda.device_count()}"
        mend = "Use fewer --devices; under Slurm, let every task see all GPUs of its node (--gpus-per-node)."
        raise MachineError.of("no-device", "this node has no such devices", expected=expected, found=found, mend=mend)


def check_shares(place: Place, device: torch.device, recipe: Recipe) -> None:
    """Check that a recipe can be trained by so many processes.

    Raises:
        UsageError: a batch has fewer slices than there are processes; batch normalisation on several CPU processes.
    """
    if recipe.batch_size < place.size:
        what = "a batch has fewer slices than there are devices to share it"
        expected = f"batch_size of {place.size} or more"
        raise UsageError.of("small-batch", what, expected=expected, found=str(recipe.batch_size))
    if place.size > 1 and device.type != "cuda" and recipe.unet.norm == "batch":
        what = "batch normalisation over several processes exists on GPUs only (torch's SyncBatchNorm)"
        mend = "Train in one process, or a recipe with another normalisation."
        raise UsageError.of("batch-norm", what, mend=mend, found=f"recipe {recipe.name} on {device.type}")


def own_device(place: Place, device: torch.device) -> torch.device:
    """The device of this process."""
    if place.size == 1 or device.type != "cuda":
        return device
    own = torch.device("cuda", place.local_rank)
    torch.cuda.set_device(own)
    return own


def trainer_options(place: Place, device: torch.device, *, repeatable: bool, norm: str) -> dict[str, Any]:
    """What Lightning's trainer is told of the devices.

    Args:
        place: of this process.
        device: of this process.
        repeatable: whether results have to be the same every time; those of CPUs always are.
        norm: the network's normalisation.
    """
    accelerator = {"cuda": "gpu"}.get(device.type, device.type)
    if place.size == 1:
        # One process, whatever cluster it runs on: under Slurm, Lightning would take over signals and requeue the job.
        devices: Any = [device.index or 0] if device.type == "cuda" else 1
        return {"accelerator": accelerator, "devices": devices, "plugins": [VerifiedIO(), LightningEnvironment()]}
    # From the second step on, torch would pack gradients in the order in which they came; a sum of three or more ranks
    # is rounded by its place in the pack, so a resumed run would differ in the last bit.  With this, it never repacks.
    strategy = DDPStrategy(find_unused_parameters=repeatable or device.type == "cpu")
    return {
        "accelerator": accelerator,
        "devices": place.devices,
        "num_nodes": place.nodes,
        "strategy": strategy,
        "plugins": [VerifiedIO(), Placed(place)],
        "use_distributed_sampler": False,  # the loaders take a process' share themselves
        "sync_batchnorm": norm == "batch",
    }


class Placed(ClusterEnvironment):
    """A :class:`~lungseg.placement.Place` as Lightning reads it; the processes exist and have met already."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return ""

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.place.size

    def set_world_size(self, size: int) -> None:
        assert size == self.place.size

    def global_rank(self) -> int:
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        """Lightning's guess from the number of the node; Slurm may have numbered its tasks otherwise."""

    def local_rank(self) -> int:
        return self.place.local_rank

    def node_rank(self) -> int:
        return self.place.node

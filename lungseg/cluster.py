"""Per-scan stages on the workers of a cluster: what ``--cluster ADDRESS`` gives them in place of local processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .dask_client import connected, count_workers
from .errors import UsageError
from .place import is_remote

if TYPE_CHECKING:
    from concurrent.futures import Executor

GPU = {"GPU": 1.0}  # what a worker with a GPU is started with: dask worker --resources GPU=1


@contextlib.contextmanager
def cluster_executor(
    address: str | None, *, device: str | None = None, names: Sequence[str | Path] = ()
) -> Iterator[Executor | None]:
    """The workers of a Dask scheduler, for ``run_cases(executor=...)``; None without an address, for this machine.

    Args:
        address: of the scheduler: ``tcp://host:8786``, or ``tls://host:8786`` with the certificates of Dask's own
            configuration.
        device: where a network is to run: a GPU is then asked for with ``cuda``, and with ``auto`` where a worker has
            one.  None for work without a network.
        names: folders and files that the workers are to find; relative ones they look for where this process would.

    Raises:
        UsageError: Dask is not installed, the address can not be meant, or there is no GPU among the workers.
        MachineError: the scheduler does not answer.
    """
    if address is None:
        yield None
        return
    from .dask_executor import DaskExecutor

    relative = any(not is_remote(name) and not Path(name).is_absolute() for name in names)
    executor = DaskExecutor(address, _resources(address, device), folder=str(Path.cwd()) if relative else None)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _resources(address: str, device: str | None) -> dict[str, float]:
    """What the workers must have; asks the scheduler, and so finds out whether it is there."""
    with connected(address) as client:
        gpus = count_workers(client, GPU)
        if device == "auto":
            return GPU if gpus else {}
        if device is None or not device.startswith("cuda"):
            return {}
        if not gpus and count_workers(client, {}):
            mend = "Start workers with: dask worker ADDRESS --nthreads 1 --resources GPU=1"
            raise UsageError.of("no-gpu-workers", "no worker says that it has a GPU", file=address, mend=mend)
        return GPU

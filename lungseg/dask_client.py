"""The way to a Dask scheduler: a client, what the workers have, and errors in the user's words.

The scheduler, the workers and this process need the same ``lungseg``.  Tasks and results travel in Dask's own
serialisation, which runs code: a scheduler must be reachable only by those whom you trust (SECURITY.md).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .errors import MachineError, Problem, UsageError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 15.0
FAILURES = 0  # deaths of a worker after which Dask itself hands a case over again


class Lost(Exception):
    """The scheduler can not be reached, for now."""


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler.

    Raises:
        UsageError: Dask is not installed, or the address can not be meant.
        MachineError: the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError as cause:
        raise UsageError.of(
            "no-dask", "Dask is not installed", mend="Install it: pip install lungseg[cluster]", expected="distributed"
        ) from cause
    for name in ("distributed.client", "distributed.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said once, in this package's words
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False, name="lungseg")
    except OSError as cause:
        raise unreachable(address) from cause
    except (ValueError, TypeError) as cause:
        raise UsageError.of(
            "bad-address",
            "is no address of a scheduler",
            expected="such as tcp://host:8786",
            found=str(cause),
            file=address,
        ) from cause
    try:
        try:
            client.run_on_scheduler(_blame_at_once)
        except (OSError, TimeoutError) as cause:
            raise unreachable(address) from cause
        except Exception as cause:
            raise explained(cause) from cause
        yield client
    finally:
        with contextlib.suppress(Exception):  # a scheduler that is gone can not be taken leave of
            client.close(timeout=2)


def count_workers(client: Client, resources: Mapping[str, float]) -> int:
    """How many workers there are with these resources."""
    try:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
    except (OSError, TimeoutError) as cause:
        raise Lost from cause
    return sum(
        worker["status"] == "running"
        and all(worker["resources"].get(name, 0.0) >= least for name, least in resources.items())
        for worker in workers
    )


def _blame_at_once(dask_scheduler: Any = None) -> None:
    """Runs on the scheduler: Dask says at once what a worker died with; by itself it would let a case kill four."""
    dask_scheduler.allowed_failures = min(dask_scheduler.allowed_failures, FAILURES)


def explained(error: Exception) -> Exception:
    """The error, in the user's words where a machine lacks ``lungseg``."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and (cause.name or "").startswith("lungseg"):
            return MachineError(
                Problem(
                    "no-lungseg-there",
                    "the scheduler or a worker has no lungseg",
                    found=str(cause),
                    mend="Install the same version on all machines.",
                )
            )
        cause = cause.__cause__
    return error


def unreachable(address: str) -> MachineError:
    mend = "Start it (docs/clusters.md), or check the address."
    return MachineError(Problem("no-scheduler", "the scheduler does not answer", file=address, mend=mend))

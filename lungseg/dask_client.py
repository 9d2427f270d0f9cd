"""The way to a Dask scheduler: a client, what the workers have, and errors in the user's words.

The scheduler, the workers and this process need the same ``lungseg``.  Tasks and results travel in Dask's own
serialisation, which runs code: a scheduler must be reachable only by those whom you trust (SECURITY.md).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .errors import LungsegError, MachineError, Problem, UsageError

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
        import distributed  # noqa: F401
    except ImportError as cause:
        raise UsageError.of(
            "no-dask", "Dask is not installed", mend="Install it: pip install lungseg[cluster]", expected="distributed"
        ) from cause
    for name in ("distributed.client", "distributed.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said once, in this package's words
    _check_address(address)
    client = _client(address)
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


def _check_address(address: str) -> None:
    """Refuse what can be no address: a client that Dask begins and can not make would be waited for at the end."""
    from distributed import Security
    from distributed.comm import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    try:
        scheme, place = parse_address(address, strict=True)
        get_backend(scheme)
        parse_host_port(place)
    except ValueError as cause:
        raise _bad_address(address, str(cause)) from cause
    if scheme == "tls" and Security().get_connection_args("client").get("ssl_context") is None:
        raise _bad_address(address, "no certificates in Dask's configuration (distributed.comm.tls)")


def _bad_address(address: str, found: str) -> LungsegError:
    what, expected = "is no address of a scheduler", "such as tcp://host:8786"
    return UsageError.of("bad-address", what, expected=expected, found=found, file=address)


def _client(address: str) -> Client:
    """A client, made in a thread of its own: of what answers, but is no scheduler, Dask waits for more without end."""
    from distributed import Client

    made: queue.SimpleQueue[Client | Exception] = queue.SimpleQueue()

    def make() -> None:
        try:
            made.put(Client(address, timeout=CONNECT_S, set_as_default=False, name="lungseg"))
        except Exception as error:  # is raised where it is waited for
            made.put(error)

    threading.Thread(target=make, name="lungseg-connect", daemon=True).start()
    try:
        client = made.get(timeout=2 * CONNECT_S)
    except queue.Empty as cause:
        raise unreachable(address) from cause
    if isinstance(client, OSError):
        raise unreachable(address) from client
    if isinstance(client, Exception):
        raise client
    return client


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

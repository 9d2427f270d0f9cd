"""The processes of a run, once they have found each other: rank 0 decides and writes, the others follow."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from .errors import LungsegError, MachineError
from .placement import LOST, Place

JOIN = timedelta(minutes=5)  # nodes of a cluster do not start at the same moment
ANSWER = timedelta(minutes=30)  # torch's own limit for gloo; a rank may read all slices of a folder meanwhile
# What torch says where the other end of a connection has gone; gloo has no error type of its own.
_BROKEN = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


class Team:
    """What rank 0 has to say to the others.

    Args:
        place: of this process.
        store: that all share; None for one process.
    """

    def __init__(self, place: Place, store: dist.Store | None = None) -> None:
        self.place, self._store, self._asked = place, store, 0

    @property
    def first(self) -> bool:
        return self.place.rank == 0

    def agree(self, decide: Callable[[], Any]) -> Any:
        """What ``decide`` gives on rank 0, where alone it is called; every process has to ask, in the same order.

        Args:
            decide: gives what JSON can hold.

        Raises:
            LungsegError: ``decide`` did; or, with the code :data:`LOST` on the others, rank 0 has no answer.
        """
        if self._store is None:
            return decide()
        key, self._asked = f"agreed/{self._asked}", self._asked + 1
        if self.first:
            value = decide()
            self._store.set(key, json.dumps(value))
            return value
        try:
            return json.loads(self._store.get(key))
        except RuntimeError as cause:
            raise lost_rank(cause) from cause


@contextlib.contextmanager
def joined(place: Place, device: torch.device) -> Iterator[Team]:
    """Meet the other processes of a run, and part from them at the end; for one process, nothing.

    Raises:
        MachineError: they do not all come.
        LungsegError: what was raised within, with the rank of this process, unless it is 0, in front.
    """
    if place.size == 1:
        yield Team(place)
        return
    try:
        store = _meet(place, device)
    except RuntimeError as cause:
        raise _named(_nobody(place, str(cause)), place) from cause
    try:
        yield Team(place, dist.PrefixStore("lungseg", store))
    except LungsegError as error:
        raise _named(error, place) from error
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise _named(lost_rank(error), place) from error
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _meet(place: Place, device: torch.device) -> dist.Store:
    store, _, _ = next(dist.rendezvous(place.url, place.rank, place.size, timeout=JOIN))
    store.set_timeout(JOIN)
    here = dist.PrefixStore("here", store)
    here.set(str(place.rank), "1")
    if place.rank == 0:
        for rank in range(place.size):
            try:
                here.wait([str(rank)], JOIN)
            except RuntimeError as cause:
                raise _nobody(place, f"no rank {rank} after {JOIN.seconds} s") from cause
    store.set_timeout(ANSWER)
    cuda = device.type == "cuda"
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        store=dist.PrefixStore("group", store),
        rank=place.rank,
        world_size=place.size,
        timeout=ANSWER,
        device_id=device if cuda else None,
    )
    return store


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in _BROKEN)


def lost_rank(error: BaseException) -> LungsegError:
    """The package's own error for it."""
    found = (str(error).strip().splitlines() or [""])[-1][:160]
    mend = "What ended the other rank is said there; --resume goes on."
    return MachineError.of(LOST, "another rank is gone", found=found, mend=mend)


def _nobody(place: Place, found: str) -> LungsegError:
    mend = "Give the same command on each node within five minutes; MASTER_ADDR has to be node 0 to all of them."
    expected, what = f"{place.size} ranks", "the ranks did not find each other"
    return MachineError.of("no-ranks", what, expected=expected, found=found.splitlines()[0][:160], mend=mend)


def _named(error: LungsegError, place: Place) -> LungsegError:
    if place.rank == 0:
        return error
    return type(error)(replace(error.problem, what=f"rank {place.rank}: {error.problem.what}"), error.stage)

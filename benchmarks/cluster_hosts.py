"""Hosts for one run of benchmarks/cluster.py: network namespaces of Linux, joined by a bridge in one of their own.

Each has an address of its own and reaches the others only over the wire; the file system they share.  Nothing of the
machine's own network is touched.  Needs root.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

NET = "10.231.77"  # a private range (RFC 1918); it exists inside the namespaces only
SWITCH = "lungseg-switch"


def names(count: int) -> list[str]:
    return [f"lungseg-host{number}" for number in range(count)]


def address(number: int) -> str:
    return f"{NET}.{number + 1}"


def inside(number: int) -> list[str]:
    """Words before a command that is to run on a host."""
    return ["ip", "netns", "exec", names(number + 1)[number]]


def possible() -> bool:
    """Whether this system lets the caller make a namespace."""
    try:
        return not any(subprocess.run(["ip", "netns", do, SWITCH], capture_output=True).returncode for do in _TRY)
    except OSError:
        return False


_TRY = ("add", "delete")


@contextlib.contextmanager
def hosts(count: int) -> Iterator[None]:
    """``count`` hosts; they are gone afterwards."""
    _remove(count)
    try:
        _ip("netns", "add", SWITCH)
        _ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        _ip("-n", SWITCH, "link", "set", "bridge", "up")
        for number, name in enumerate(names(count)):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "add", "wire", "type", "veth", "peer", "name", f"port{number}", "netns", SWITCH)
            _ip("-n", SWITCH, "link", "set", f"port{number}", "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{address(number)}/24", "dev", "wire")
            _ip("-n", name, "link", "set", "wire", "up")
        yield
    finally:
        _remove(count)


def _remove(count: int) -> None:
    for name in (*names(count), SWITCH):
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)

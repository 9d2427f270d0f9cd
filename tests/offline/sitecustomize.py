"""Blocks every address but this machine's own, in any Python process that has this folder on its path.

``tests/conftest.py`` loads it into the tests and puts the folder on the path of all processes that they start, notebook
kernels and workers among them.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any

_NAMES = ("localhost", "localhost.localdomain", socket.gethostname(), "", None)


class NetworkBlocked(OSError):
    """Something asked for an address that is not this machine's."""


def is_own(host: Any) -> bool:
    """Whether a host is this machine itself."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in _NAMES:
        return True
    try:
        return ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        return False


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[-1]
        # A tuple is an address of the internet; sockets of the file system and of the kernel have others.
        if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[0], (str, bytes)):
            _refuse_unless_own(address[0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        _refuse_unless_own(arguments[0])


def _refuse_unless_own(host: Any) -> None:
    if not is_own(host):
        raise NetworkBlocked(f"the tests asked for {host}, and no address but this machine's is open to them")


sys.addaudithook(_guard)

"""What goes wrong on the way to a scheduler, in the user's words."""

from __future__ import annotations

import http.server
import threading

import pytest

from lungseg.cluster import cluster_executor
from lungseg.dask_client import explained
from lungseg.errors import MachineError, UsageError


def test_no_address_is_this_machine() -> None:
    with cluster_executor(None, device="cuda") as executor:
        assert executor is None


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1:9", "head", "head:8786", "tcp://head", "http://head:8787", "tls://head:8786"]
)
def test_what_can_be_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a scheduler"), cluster_executor(address):
        pass


def test_nobody_and_somebody_else_at_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungseg.dask_client.CONNECT_S", 1.0)
    with pytest.raises(MachineError, match="does not answer"), cluster_executor("tcp://127.0.0.1:9"):
        pass
    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        with (
            pytest.raises(MachineError, match="does not answer"),
            cluster_executor(f"tcp://127.0.0.1:{page.server_port}"),
        ):
            pass
    finally:
        page.shutdown()
        page.server_close()


def test_a_machine_without_lungseg_is_said_whatever_dask_wraps_it_in() -> None:
    missing = ModuleNotFoundError("No module named 'lungseg'", name="lungseg")
    wrapped = RuntimeError("Error during deserialization of the task graph")
    wrapped.__cause__ = missing
    for error in (missing, wrapped):
        found = explained(error)
        assert isinstance(found, MachineError) and "same version on all machines" in str(found)
    other = ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")
    assert explained(other) is other and explained(KeyError("a")).args == ("a",)

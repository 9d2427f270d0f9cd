"""Addresses, redirects, certificates and proxies: what is followed and what is refused."""

from __future__ import annotations

import random
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lungseg.errors import IntegrityError, MachineError, UsageError
from lungseg.web import Dropped, check_address, open_address, shown

from .misbehaving_server import MisbehavingServer, drips_its_header, says, stalls_after, stay_on_this_machine

CONTENT = random.Random(1).randbytes(2000)
NAMED = "data.example"  # leads to 127.0.0.1 in these tests, but is no name of this machine


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    stay_on_this_machine(monkeypatch, NAMED)
    with MisbehavingServer(CONTENT) as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for data.example that it has signed itself, with its key in the same file; a minute's life."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    key = path.with_name("key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "1",
         "-subj", f"/CN={NAMED}", "-addext", f"subjectAltName=DNS:{NAMED}", "-keyout", key, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    stay_on_this_machine(monkeypatch, NAMED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with MisbehavingServer(CONTENT, context) as server:
        yield server


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


def body(url: str, **headers: str) -> bytes:
    with open_address(url, headers, 5.0) as response:
        return response.read()


def refused_redirect(url: str, to: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        body(url)
    assert caught.value.exit_code == 4
    assert caught.value.problem.code == "unsafe-redirect"
    assert caught.value.problem.found == to
    assert caught.value.problem.file == url


@pytest.mark.parametrize(
    "url",
    [
        "https://data.example/a.tar",
        "https://data.example:8443/a",
        "http://127.0.0.1:1/a",
        "http://localhost/a",
        "http://[::1]:80/a",
    ],
)
def test_addresses_to_be_used(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://data.example/a",
        "http://127.0.0.1.data.example/a",
        "http://localhost.data.example/a",
        "http://127.0.0.1@data.example/a",
        "HTTP://10.0.0.1/a",
        "ftp://data.example/a",
        "file:///etc/passwd",
        "data:text/plain,a",
        "https:///a",
        "https://data.example:port/a",
        "https://[::1/a",
        "://",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_address(url)
    assert caught.value.exit_code == 2
    assert caught.value.problem.expected.startswith("https://")


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    url = "https://me:pass\nword@data.example:8443/a b?token=secret#part"
    assert shown(url) == "https://data.example:8443/a b"
    assert shown("https://[::1/a") == "an address that can not be read"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_this_machine_is_followed_with_its_headers(server: MisbehavingServer, status: int) -> None:
    server.script += [says(status, Location="/elsewhere")]
    assert body(server.url(), Range="bytes=10-") == CONTENT[10:]
    assert [path for path, _ in server.requests] == ["/Task06_Lung.tar", "/elsewhere"]
    assert server.ranges == ["bytes=10-"] * 2


@pytest.mark.parametrize(
    "to", ["http://data.example/x", "http://10.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/hostname", "data:,x"]
)
@pytest.mark.parametrize("status", [302, 308])
def test_a_redirect_to_an_unsafe_address_is_refused(server: MisbehavingServer, to: str, status: int) -> None:
    server.script += [says(status, Location=to)]
    refused_redirect(server.url(), shown(to))
    assert len(server.requests) == 1


def test_a_redirect_in_a_circle_ends(server: MisbehavingServer) -> None:
    server.script += [says(302, Location="/round")] * 25
    refused_redirect(server.url(), ":///round")
    assert len(server.requests) < 15


def test_a_redirect_to_nowhere_is_refused(server: MisbehavingServer) -> None:
    server.script += [says(302, Location="http://[::1/x")]
    with pytest.raises(IntegrityError):
        body(server.url())


def test_https_with_a_good_certificate(secure: MisbehavingServer, trusted: None) -> None:
    assert body(secure.url(host=NAMED)) == CONTENT
    secure.script += [says(302, Location=secure.url("elsewhere", host=NAMED))]
    assert body(secure.url(host=NAMED)) == CONTENT


def test_a_redirect_from_https_to_http_is_refused_even_to_this_machine(
    secure: MisbehavingServer, server: MisbehavingServer, trusted: None
) -> None:
    for host in (NAMED, "127.0.0.1"):
        secure.script += [says(302, Location=server.url(host=host))]
        refused_redirect(secure.url(host=NAMED), server.url(host=host))
    assert server.requests == []


def test_a_redirect_from_this_machine_to_https_is_followed(
    secure: MisbehavingServer, server: MisbehavingServer, trusted: None
) -> None:
    server.script += [says(302, Location=secure.url(host=NAMED))]
    assert body(server.url()) == CONTENT


def test_a_certificate_that_nobody_has_signed_is_refused(secure: MisbehavingServer) -> None:
    with pytest.raises(IntegrityError) as caught:
        body(secure.url(host=NAMED))
    assert caught.value.problem.code == "certificate" and caught.value.exit_code == 4
    assert secure.requests == []


def test_a_certificate_of_another_name_is_refused(secure: MisbehavingServer, trusted: None) -> None:
    with pytest.raises(IntegrityError) as caught:
        body(secure.url(host="127.0.0.1"))
    assert caught.value.problem.code == "certificate"
    assert secure.requests == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_server_that_says_no(server: MisbehavingServer, status: int) -> None:
    server.script += [says(status)]
    with pytest.raises(MachineError) as caught:
        body(server.url("a?token=secret"))
    assert caught.value.problem.code == "http-status" and caught.value.exit_code == 5
    assert str(status) in caught.value.problem.found
    assert caught.value.problem.file == server.url("a")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_or_ill_may_be_asked_again(server: MisbehavingServer, status: int) -> None:
    server.script += [says(status)]
    with pytest.raises(Dropped, match=str(status)) as caught:
        body(server.url())
    assert not caught.value.stale


def test_a_range_beyond_the_end_makes_what_is_there_stale(server: MisbehavingServer) -> None:
    with pytest.raises(Dropped) as caught:
        body(server.url(), Range="bytes=2000-")
    assert caught.value.stale


def test_no_answer_at_all_ends_in_the_time_that_was_set(server: MisbehavingServer) -> None:
    server.script += [stalls_after(-1)]
    with pytest.raises(Dropped, match="timed out"):
        open_address(server.url(), {}, 0.1)


def test_no_proxy_stands_between_this_machine_and_itself(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MisbehavingServer(b"of the proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url(""))
        assert body(server.url()) == CONTENT
        assert proxy.requests == []


@pytest.mark.parametrize("scheme", ["server", "secure"])
def test_row_01_a_header_that_drips_ends_in_the_time_limit(scheme: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(scheme)
    request.getfixturevalue("trusted") if scheme == "secure" else None
    server.script += [drips_its_header]
    started = time.monotonic()
    with pytest.raises(Dropped, match="did not begin in time"):
        open_address(server.url(host=NAMED if scheme == "secure" else "127.0.0.1"), {}, 0.5)
    assert 0.4 < time.monotonic() - started < 5  # it would drip for 20 s
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]

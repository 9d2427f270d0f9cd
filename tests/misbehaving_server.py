"""A server of one file on 127.0.0.1 that fails in every way a line or a server can fail, as its script says.

``server.script`` holds what the next requests meet, one entry each; after the last entry it serves well.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lungseg.fetch import Patience

MOST_REQUESTS = 30  # then the server says 403, which no client tries again
NAME = "Task06_Lung.tar"
QUICK = Patience(timeout_s=5.0, backoff_s=(0.0, 0.0, 0.0))
HASTY = Patience(timeout_s=0.3, backoff_s=(0.0, 0.0, 0.0))  # for what stalls


class Handler(BaseHTTPRequestHandler):
    """One request; ``server.owner`` says what to do with it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        owner: MisbehavingServer = self.server.owner  # type: ignore[attr-defined]
        owner.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        if len(owner.requests) > MOST_REQUESTS:
            behave = says(403)
        else:
            behave = owner.script.popleft() if owner.script else serves_well
        with contextlib.suppress(OSError):  # the client has gone
            behave(self, owner)

    def answer(self, status: int, **headers: str | int) -> None:
        """The status line and the headers; ``Content_Length`` stands for ``Content-Length``."""
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


Behaviour = Callable[[Handler, "MisbehavingServer"], None]


class MisbehavingServer:
    """Serves ``content`` until the block is left.

    Args:
        content: the file; may be changed between two requests.
        tls: makes it an https server.
    """

    def __init__(self, content: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.content = content
        self.script: deque[Behaviour] = deque()
        self.requests: list[tuple[str, dict[str, str]]] = []  # path and headers, in order of arrival
        self.etag = True  # else only the date of the last change, which never differs here, tells a changed file
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.owner = self  # type: ignore[attr-defined]
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> MisbehavingServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join(5)
        self._http.server_close()

    @property
    def port(self) -> int:
        return self._http.server_address[1]

    def url(self, name: str = NAME, host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}/{name}"

    @property
    def ranges(self) -> list[str]:
        """The Range header of each request, "" where there was none."""
        return [headers.get("Range", "") for _, headers in self.requests]

    @property
    def validator(self) -> dict[str, str]:
        if not self.etag:
            return {"Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        return {"ETag": f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'}


def serves_well(handler: Handler, owner: MisbehavingServer, *, heed_if_range: bool = True) -> None:
    """The whole file, or the range that is asked for, as RFC 9110 says."""
    start = _begin(handler, owner, heed_if_range)
    if start is not None:
        handler.wfile.write(owner.content[start:])


def ignores_if_range(handler: Handler, owner: MisbehavingServer) -> None:
    """Sends the range even of a file that has changed."""
    serves_well(handler, owner, heed_if_range=False)


def ignores_range(handler: Handler, owner: MisbehavingServer) -> None:
    handler.answer(200, Content_Length=len(owner.content), **owner.validator)
    handler.wfile.write(owner.content)


def tells_no_length(handler: Handler, owner: MisbehavingServer) -> None:
    handler.answer(200)
    handler.wfile.write(owner.content)


def sends_another_range(handler: Handler, owner: MisbehavingServer) -> None:
    size = len(owner.content)
    handler.answer(206, Content_Length=size, Content_Range=f"bytes 0-{size - 1}/{size}", **owner.validator)
    handler.wfile.write(owner.content)


def drops_after(count: int, *, reset: bool = False) -> Behaviour:
    """Sends ``count`` bytes of what it announced, then closes the connection, or resets it."""

    def behave(handler: Handler, owner: MisbehavingServer) -> None:
        start = _begin(handler, owner) or 0
        handler.wfile.write(owner.content[start : start + count])
        handler.wfile.flush()
        if reset:
            time.sleep(0.05)  # a reset may overtake the bytes before it
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    return behave


def stalls_after(count: int) -> Behaviour:
    """Sends ``count`` bytes of what it announced, and then nothing; -1 sends no answer at all."""

    def behave(handler: Handler, owner: MisbehavingServer) -> None:
        if count >= 0:
            start = _begin(handler, owner) or 0
            handler.wfile.write(owner.content[start : start + count])
            handler.wfile.flush()
        owner.closing.wait(20)

    return behave


def drips(handler: Handler, owner: MisbehavingServer) -> None:
    """A byte every 50 ms: never silent, and never done."""
    start = _begin(handler, owner) or 0
    for at in range(start, min(start + 200, len(owner.content))):
        handler.wfile.write(owner.content[at : at + 1])
        handler.wfile.flush()
        if owner.closing.wait(0.05):
            break


def drips_its_header(handler: Handler, owner: MisbehavingServer) -> None:
    """A byte of the answer's header every 50 ms, which is soon enough for a socket's own time limit."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 400:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if owner.closing.wait(0.05):
            break


def says(status: int, **headers: str) -> Behaviour:
    """Only a status, with a redirect's ``Location``, say."""
    return lambda handler, owner: handler.answer(status, Content_Length=0, **headers)


def sends(body: bytes, status: int = 200, **headers: str | int) -> Behaviour:
    """Something else than the file."""

    def behave(handler: Handler, owner: MisbehavingServer) -> None:
        handler.answer(status, **{"Content_Length": len(body), **headers})
        handler.wfile.write(body)

    return behave


def sends_in_chunks(body: bytes, *, end: bool = True) -> Behaviour:
    """A chunked answer; without its end it was cut off."""

    def behave(handler: Handler, owner: MisbehavingServer) -> None:
        handler.answer(200, Transfer_Encoding="chunked")
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if end else b""))

    return behave


def stay_on_this_machine(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Fail a test that looks up another host than this machine; ``names`` lead to it as well."""
    ours = {"127.0.0.1", "localhost", *names}
    real = socket.getaddrinfo

    def look_up(host: str, *args: object, **kwargs: object) -> object:
        assert host in ours, f"a test asked for {host}"
        return real("127.0.0.1", *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def facts_of(content: bytes, url: str):  # type: ignore[no-untyped-def]
    """What would be published of this archive."""
    from lungseg.download import ArchiveFacts

    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return ArchiveFacts(NAME, url, len(content), md5, hashlib.sha256(content).hexdigest(), "a licence", "a paper")


def files_below(folder: Path) -> list[str]:
    """Names of the files below a folder, but for the lock."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lungseg.lock"
    )


def _begin(handler: Handler, owner: MisbehavingServer, heed_if_range: bool = True) -> int | None:
    """Send the headers; the offset at which the body begins, None where there is none to send."""
    size, validator = len(owner.content), owner.validator
    asked = re.fullmatch(r"bytes=([0-9]+)-", handler.headers.get("Range", ""))
    condition = handler.headers.get("If-Range")
    start = int(asked[1]) if asked else 0
    if asked and heed_if_range and condition not in (None, *validator.values()):
        asked, start = None, 0
    if not asked:
        handler.answer(200, Content_Length=size, **validator)
    elif start >= size:
        handler.answer(416, Content_Length=0, Content_Range=f"bytes */{size}")
        return None
    else:
        span = f"bytes {start}-{size - 1}/{size}"
        handler.answer(206, Content_Length=size - start, Content_Range=span, **validator)
    return start

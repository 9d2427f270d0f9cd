"""Opening a web address safely: https only, redirects watched, failures sorted by whether another try may help."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from .errors import IntegrityError, MachineError, Problem, UsageError, printable

_LATE = "timed out: the server's answer did not begin in time"
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that is busy or ill, not of one that says no


class Dropped(Exception):
    """The try failed in a way that another one may mend.

    Args:
        reason: in a few words.
        stale: what was fetched before does not belong to the file as it is now.
    """

    def __init__(self, reason: str, *, stale: bool = False) -> None:
        super().__init__(reason)
        self.stale = stale


def shown(url: str) -> str:
    """The address without user, password and query, which may hold secrets."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "an address that can not be read"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def check_address(url: str) -> None:
    """Refuse what is neither https nor http on this machine itself.

    Raises:
        UsageError: it is such an address.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        usable = bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(url)))
        parts.port  # noqa: B018 - raises where the port is no number
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            Problem("bad-address", "is no address to download from", expected="https://HOST/PATH", found=printable(url))
        )


def open_address(url: str, headers: dict[str, str], timeout_s: float) -> Any:
    """The answer to a GET, as an ``http.client.HTTPResponse`` to be closed by the caller.

    Args:
        url: an address that :func:`check_address` takes.
        headers: of the request.
        timeout_s: seconds without any byte, after which connecting or reading ends; also the time that a whole answer's
            header may take, however it drips in.

    Raises:
        Dropped: another try may help.
        IntegrityError: the server's certificate is not good, or it sends on to an unsafe address.
        MachineError: the server refuses.
    """
    request = urllib.request.Request(url, headers=headers)
    handlers: list[urllib.request.BaseHandler] = [_SafeRedirects(), _InTimeHTTP(), _InTimeHTTPS()]
    if _is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))  # no proxy stands between this machine and itself
    address = shown(url)
    try:
        return urllib.request.build_opener(*handlers).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as cause:
        cause.close()
        if cause.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise Dropped("the file has changed on the server", stale=True) from cause
        if 300 <= cause.code < 400:  # a redirect that urllib itself does not follow, to file: or in a circle
            raise _unsafe_redirect(str(cause.headers.get("Location", "")), url) from cause
        if cause.code in _TRY_AGAIN:
            raise Dropped(f"the server answers {cause.code}") from cause
        answer = f"{cause.code} {printable(str(cause.reason))}"
        raise MachineError(
            Problem("http-status", "the server refuses", found=answer, file=address, mend="Check the address.")
        ) from cause
    except (OSError, http.client.HTTPException) as cause:
        reason = getattr(cause, "reason", cause)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise IntegrityError(
                Problem(
                    "certificate",
                    "the server can not prove that it is the right one",
                    found=reason.verify_message,
                    file=address,
                    mend="Check the clock of this machine and the network that it is in.",
                )
            ) from cause
        raise Dropped(printable(str(reason)) or type(cause).__name__) from cause
    except ValueError as cause:  # urllib's word for a redirect that is no address
        raise _unsafe_redirect("", url) from cause


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https, or from this machine to itself, and to nowhere else."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme != "https" and not (
            newurl.startswith("http://") and _is_loopback(newurl) and _is_loopback(req.full_url)
        ):
            raise _unsafe_redirect(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _InTime(http.client.HTTPConnection):
    """A connection that is cut where the header of an answer is not there in time.

    A socket's own time limit begins anew with each byte, so a server that sends one now and then would hold it on.
    """

    def getresponse(self) -> http.client.HTTPResponse:
        late = threading.Event()

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError, TypeError):  # it may be done with the socket just now
                # The plain socket's shutdown wakes the reader; a TLS socket's own would first take its state away.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

        timer = threading.Timer(float(self.timeout or 0), cut)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        except Exception as cause:
            if late.is_set():
                raise TimeoutError(_LATE) from cause
            raise
        finally:
            timer.cancel()
            timer.join()
        if late.is_set():  # what had come by then looks like a whole header
            response.close()
            raise TimeoutError(_LATE)
        return response


class _InTimeTLS(_InTime, http.client.HTTPSConnection):
    """The same over TLS."""


class _InTimeHTTP(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_InTime, req)


class _InTimeHTTPS(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_InTimeTLS, req)


def _unsafe_redirect(to: str, url: str) -> IntegrityError:
    what = "the server sends on to an address that is not to be trusted"
    mend = "Check the address and the network, then run the same command again."
    return IntegrityError(
        Problem("unsafe-redirect", what, expected="https", found=shown(to), mend=mend, file=shown(url))
    )


def _is_loopback(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""A server's answer to a download: where in the file it begins, how long that is, and whether it is another file."""

from __future__ import annotations

import http.client
import re

from .errors import IntegrityError, Problem, printable
from .web import Dropped, shown


def what_comes(
    response: http.client.HTTPResponse, have: int, size: int | None, most: int, url: str
) -> tuple[int, int | None]:
    """(offset at which the answer begins, bytes of the whole file where the server tells); refuses another file."""
    kind = response.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        raise not_the_file("html-page", "the server sends a web page instead of the file", url, "a tar", kind)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise not_the_file("encoding", "the server sends the file in another coding", url, "identity", encoding)
    if response.status == 206:
        match = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise Dropped("the server sends another range than was asked for", stale=True)
        start, total = have, int(match[2])  # type: int, int | None
    else:
        length = response.headers.get("Content-Length")
        start, total = 0, int(length) if length and length.isdecimal() else None
    if total is not None and (total > most or (size is not None and total != size)):
        expected = f"{size} bytes" if size is not None else f"at most {most} bytes"
        raise not_the_file("wrong-length", "the file has another length", url, expected, f"{total} bytes")
    return start, total if size is None else size


def validator_of(response: http.client.HTTPResponse) -> str:
    """What If-Range can be asked with: a strong ETag, else the date of the last change, else nothing."""
    etag = response.headers.get("ETag", "")
    return str(etag) if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def not_the_file(code: str, what: str, url: str, expected: str, found: str) -> IntegrityError:
    mend = "Check the address and the network (a login page of a guest network?), then run the same command again."
    return IntegrityError(Problem(code, what, expected=expected, found=printable(found), mend=mend, file=shown(url)))

"""A file over a bad line: rows 1 and 3 of the faults, against a server that misbehaves by a script."""

from __future__ import annotations

import random
import shutil
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lungseg.errors import IntegrityError, LungsegError, MachineError, UsageError
from lungseg.fetch import PATIENCE, Patience, fetch, note_of, part_of

from .misbehaving_server import (
    HASTY,
    NAME,
    QUICK,
    Handler,
    MisbehavingServer,
    drips,
    drops_after,
    files_below,
    ignores_if_range,
    ignores_range,
    says,
    sends,
    sends_another_range,
    sends_in_chunks,
    serves_well,
    stalls_after,
    stay_on_this_machine,
    tells_no_length,
)

CONTENT = random.Random(1).randbytes(50_000)
CHANGED = random.Random(2).randbytes(50_000)
SIZE = len(CONTENT)
Fetch = Callable[..., bytes]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    stay_on_this_machine(monkeypatch)
    with MisbehavingServer(CONTENT) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / NAME


def got(server: MisbehavingServer, target: Path, *, size: int | None = SIZE, patience: Patience = QUICK) -> bytes:
    fetch(server.url(), target, size=size, most=10**6, patience=patience)
    assert not part_of(target).exists()
    return target.read_bytes()


def refused(
    server: MisbehavingServer, target: Path, kind: type[LungsegError], code: str, **options: object
) -> LungsegError:
    with pytest.raises(kind) as caught:
        got(server, target, **options)  # type: ignore[arg-type]
    assert caught.value.problem.code == code
    assert "\n" not in str(caught.value)
    assert not target.exists()
    return caught.value


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_good_line_gives_the_file_in_one_request(server: MisbehavingServer, target: Path, size: int | None) -> None:
    assert got(server, target, size=size) == CONTENT
    assert server.ranges == [""]
    assert files_below(target.parent) == [NAME, note_of(target).name]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("size", [SIZE, None])
def test_row_01_a_dropped_connection_goes_on_where_it_was(
    server: MisbehavingServer, target: Path, size: int | None, reset: bool
) -> None:
    server.script += [drops_after(20_000, reset=reset), drops_after(10_000, reset=reset)]
    assert got(server, target, size=size) == CONTENT
    assert server.ranges == ["", "bytes=20000-", "bytes=30000-"]
    assert [headers.get("If-Range") for _, headers in server.requests[1:]] == [server.validator["ETag"]] * 2


def test_row_01_after_three_retries_the_part_is_kept_and_a_later_call_goes_on(
    server: MisbehavingServer, target: Path
) -> None:
    server.script += [drops_after(1000)] * 4
    error = refused(server, target, MachineError, "network")
    assert error.exit_code == 5
    assert "4000 bytes are kept" in error.problem.found and "same command" in error.problem.mend
    assert part_of(target).read_bytes() == CONTENT[:4000]
    assert got(server, target) == CONTENT
    assert server.ranges[4:] == ["bytes=4000-"]


def test_row_01_users_get_three_retries_each_after_a_longer_pause(server: MisbehavingServer, target: Path) -> None:
    pauses: list[float] = []
    server.script += [says(503)] * 4
    refused(server, target, MachineError, "network", patience=replace(PATIENCE, sleep=pauses.append))
    assert len(server.requests) == 4
    assert len(pauses) == 3 and pauses == sorted(set(pauses))


def test_row_01_a_line_that_drops_after_much_may_drop_without_end(
    server: MisbehavingServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lungseg.fetch._ENOUGH_TO_START_COUNTING_ANEW", 5000)
    server.script += [drops_after(5000)] * 8
    assert got(server, target) == CONTENT
    assert len(server.requests) == 9


def test_row_01_no_server_at_all(server: MisbehavingServer, target: Path) -> None:
    url = server.url()
    server.__exit__()
    with pytest.raises(MachineError) as caught:
        fetch(url, target, size=SIZE, most=SIZE, patience=QUICK)
    assert caught.value.problem.code == "network"
    assert "0 bytes are kept, after 4 tries" in caught.value.problem.found


@pytest.mark.parametrize("count", [-1, 0, 3000])
def test_row_01_a_stall_ends_in_a_set_time_and_is_tried_again(
    server: MisbehavingServer, target: Path, count: int
) -> None:
    server.script += [stalls_after(count)]
    assert got(server, target, patience=HASTY) == CONTENT
    assert server.ranges == ["", f"bytes={count}-" if count > 0 else ""]


def test_row_01_a_server_that_stalls_for_good_is_left_and_the_part_kept(
    server: MisbehavingServer, target: Path
) -> None:
    server.script += [stalls_after(1000)] * 4
    started = time.monotonic()
    refused(server, target, MachineError, "network", patience=HASTY)
    assert time.monotonic() - started < 4 * HASTY.timeout_s + 3
    assert part_of(target).read_bytes() == CONTENT[:4000]


def test_row_01_a_drip_of_bytes_is_a_stall(server: MisbehavingServer, target: Path) -> None:
    server.script += [drips]
    assert got(server, target, patience=HASTY) == CONTENT
    assert len(server.requests) == 2
    assert 0 < int(server.ranges[1].removeprefix("bytes=").removesuffix("-")) < 150  # of the 200 that would drip


def test_row_01_a_server_without_ranges_is_read_from_the_start_again(server: MisbehavingServer, target: Path) -> None:
    server.script += [drops_after(20_000), ignores_range]
    assert got(server, target) == CONTENT
    assert server.ranges == ["", "bytes=20000-"]


def test_a_busy_server_is_asked_again(server: MisbehavingServer, target: Path) -> None:
    server.script += [says(500), says(503), says(429)]
    assert got(server, target) == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_server_that_says_no_is_not_asked_again(server: MisbehavingServer, target: Path, status: int) -> None:
    part_of(target).write_bytes(CONTENT[:100])
    server.script += [says(status)]
    error = refused(server, target, MachineError, "http-status")
    assert str(status) in error.problem.found and error.problem.file == server.url()
    assert len(server.requests) == 1
    assert part_of(target).read_bytes() == CONTENT[:100]


def test_a_file_that_changed_between_two_tries_is_never_mixed(server: MisbehavingServer, target: Path) -> None:
    def changes(handler: Handler, owner: MisbehavingServer) -> None:
        owner.content = CHANGED
        serves_well(handler, owner)

    server.script += [drops_after(20_000), changes]
    assert got(server, target) == CHANGED
    assert server.ranges == ["", "bytes=20000-"]


def test_a_file_that_became_shorter_than_the_part_is_fetched_anew(server: MisbehavingServer, target: Path) -> None:
    part_of(target).write_bytes(CONTENT + b"more")
    assert got(server, target, size=None) == CONTENT
    assert server.ranges == [f"bytes={SIZE + 4}-", ""]


def test_a_changed_file_is_never_mixed_even_where_the_server_ignores_if_range(
    server: MisbehavingServer, target: Path
) -> None:
    server.script += [drops_after(20_000)]
    refused(server, target, MachineError, "network", patience=replace(QUICK, backoff_s=()))
    server.script.clear()
    server.content = CHANGED
    server.script += [ignores_if_range]
    assert got(server, target) == CHANGED
    assert server.ranges == ["", "bytes=20000-", ""]


def test_a_part_from_another_address_is_not_gone_on_from(server: MisbehavingServer, target: Path) -> None:
    server.script += [drops_after(20_000)]
    refused(server, target, MachineError, "network", patience=replace(QUICK, backoff_s=()))
    server.content, server.etag = CHANGED, False
    fetch(server.url("other.tar"), target, size=None, most=10**6, patience=QUICK)
    assert target.read_bytes() == CHANGED
    assert server.ranges == ["", ""]


def test_a_part_without_a_note_is_gone_on_from(server: MisbehavingServer, target: Path) -> None:
    part_of(target).write_bytes(CONTENT[:7])
    assert got(server, target) == CONTENT
    assert server.ranges == ["bytes=7-"]


def test_a_part_that_is_whole_needs_no_request(server: MisbehavingServer, target: Path) -> None:
    part_of(target).write_bytes(CONTENT)
    assert got(server, target) == CONTENT
    assert server.requests == []


def test_a_part_that_is_too_long_is_thrown_away(server: MisbehavingServer, target: Path) -> None:
    part_of(target).write_bytes(CONTENT + b"x")
    assert got(server, target) == CONTENT
    assert server.ranges == [""]


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/octet-stream"])
def test_row_03_a_web_page_is_refused(server: MisbehavingServer, target: Path, kind: str) -> None:
    server.script += [sends(b"\n<!DOCTYPE html><p>Please log in" + bytes(SIZE - 32), Content_Type=kind)]
    error = refused(server, target, IntegrityError, "html-page")
    assert error.exit_code == 4 and "login page" in error.problem.mend
    assert len(server.requests) == 1
    assert not part_of(target).exists() or part_of(target).read_bytes() == b""


def test_row_03_a_web_page_does_not_cost_what_was_fetched_before(server: MisbehavingServer, target: Path) -> None:
    server.script += [drops_after(20_000), sends(b"<html>" + bytes(SIZE - 6), Content_Type="text/html")]
    refused(server, target, IntegrityError, "html-page")
    assert got(server, target) == CONTENT
    assert server.ranges == ["", "bytes=20000-", "bytes=20000-"]


@pytest.mark.parametrize("length", [0, SIZE - 1, SIZE + 1])
def test_row_03_a_wrong_length_is_refused(server: MisbehavingServer, target: Path, length: int) -> None:
    server.content = (CONTENT + b"x")[:length]
    error = refused(server, target, IntegrityError, "wrong-length")
    assert error.problem.expected == f"{SIZE} bytes" and error.problem.found == f"{length} bytes"
    assert len(server.requests) == 1


def test_row_03_a_wrong_length_is_refused_in_the_middle_too(server: MisbehavingServer, target: Path) -> None:
    part_of(target).write_bytes(CONTENT[:10])
    server.content = CONTENT + b"x"
    refused(server, target, IntegrityError, "wrong-length")


@pytest.mark.parametrize("body", [CONTENT[:-1], CONTENT + b"x"])
def test_row_03_a_wrong_length_that_the_server_does_not_tell(
    server: MisbehavingServer, target: Path, body: bytes
) -> None:
    server.script += [sends_in_chunks(body)]
    refused(server, target, IntegrityError, "wrong-length")
    assert part_of(target).read_bytes() == b""  # of another file, there is nothing to go on from
    assert got(server, target) == CONTENT


def test_row_03_more_than_was_allowed_for(server: MisbehavingServer, target: Path) -> None:
    for told in (serves_well, tells_no_length):
        server.script += [told]
        with pytest.raises(IntegrityError) as caught:
            fetch(server.url(), target, size=None, most=SIZE - 1, patience=QUICK)
        assert caught.value.problem.code == "wrong-length"
        assert not part_of(target).exists() or part_of(target).stat().st_size < SIZE


def test_a_length_that_is_not_told_is_no_hindrance(server: MisbehavingServer, target: Path) -> None:
    server.script += [tells_no_length]
    assert got(server, target, size=None) == CONTENT


def test_row_01_a_chunked_answer_that_is_cut_off(server: MisbehavingServer, target: Path) -> None:
    server.script += [sends_in_chunks(CONTENT[:3000], end=False)]
    assert got(server, target) == CONTENT
    assert server.ranges[0] == "" and len(server.requests) == 2


def test_another_range_than_was_asked_for_is_not_taken(server: MisbehavingServer, target: Path) -> None:
    part_of(target).write_bytes(CONTENT[:10])
    server.script += [sends_another_range]
    assert got(server, target) == CONTENT
    assert server.ranges == ["bytes=10-", ""]


def test_a_packed_answer_is_refused(server: MisbehavingServer, target: Path) -> None:
    server.script += [sends(CONTENT, Content_Encoding="gzip")]
    refused(server, target, IntegrityError, "encoding")


def test_row_08_too_little_room_is_said_before_the_first_byte(
    server: MisbehavingServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - SIZE + 1, SIZE - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    error = refused(server, target, MachineError, "disk-space", size=None)
    assert error.problem.expected and error.problem.found
    assert files_below(target.parent) == []
    part_of(target).write_bytes(CONTENT[:1])  # what is there already needs no room
    assert got(server, target, size=None) == CONTENT


def test_row_08_a_full_disk_keeps_the_part(
    server: MisbehavingServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def update(self, count: int) -> None:
            if count:
                raise OSError(28, "No space left on device")

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("lungseg.fetch.byte_bar", lambda *_, **__: Full())
    error = refused(server, target, MachineError, "disk-full")
    assert "goes on where it was" in error.problem.mend
    kept = part_of(target).read_bytes()
    assert kept and CONTENT.startswith(kept)
    monkeypatch.undo()
    stay_on_this_machine(monkeypatch)
    assert got(server, target) == CONTENT
    assert server.ranges[1:] in ([f"bytes={len(kept)}-"], [])


@pytest.mark.parametrize(
    "url", ["http://example.org/a.tar", "ftp://127.0.0.1/a.tar", "file:///etc/hostname", "https://", "https://h:port/a"]
)
def test_an_address_that_is_not_to_be_used(target: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_on_this_machine(monkeypatch)
    with pytest.raises(UsageError) as caught:
        fetch(url, target, size=SIZE, most=SIZE, patience=QUICK)
    assert caught.value.problem.code == "bad-address"
    assert files_below(target.parent) == []


@pytest.mark.parametrize("text", ["[]", '"a"', '{"url": 5}', '{"validator": "a\\r\\nHost: x"}', "{"])
def test_a_note_that_is_none_is_refused_by_its_name(server: MisbehavingServer, target: Path, text: str) -> None:
    part_of(target).write_bytes(CONTENT[:100])
    note_of(target).write_text(text)
    refused(server, target, UsageError, "bad-json" if text == "{" else "bad-note")
    assert server.requests == [] and part_of(target).read_bytes() == CONTENT[:100]

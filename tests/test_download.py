"""The whole of `lungseg download`: rows 1 to 9 of the faults, from a server or a file to a tree with its marker."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lungseg import files
from lungseg.archive import MARKER, damaged_files
from lungseg.cli import main
from lungseg.download import TASK06, ArchiveFacts, download
from lungseg.errors import IntegrityError, LungsegError, MachineError, UsageError

from .malicious_tars import FORMS, GOOD_FILES, ROOT, everything_below, good_tar
from .misbehaving_server import (
    HASTY,
    NAME,
    QUICK,
    MisbehavingServer,
    drops_after,
    facts_of,
    files_below,
    says,
    sends,
    stalls_after,
    stay_on_this_machine,
)

TAR = good_tar()
SHA256 = hashlib.sha256(TAR).hexdigest()
TREE = sorted([*GOOD_FILES, f"{ROOT}/{MARKER}"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingServer]:
    stay_on_this_machine(monkeypatch)
    with MisbehavingServer(TAR) as server:
        yield server


@pytest.fixture
def facts(server: MisbehavingServer) -> ArchiveFacts:
    return facts_of(TAR, server.url())


def assert_whole(out: Path, sha256: str = SHA256) -> None:
    assert {name: (out / name).read_bytes() for name in GOOD_FILES} == GOOD_FILES
    assert damaged_files(out / ROOT, {"sha256": sha256}) == []


def refused(out: Path, kind: type[LungsegError], code: str, **options: object) -> LungsegError:
    """The download fails in this way, on one line that says what to do, and unpacks nothing."""
    with pytest.raises(kind) as caught:
        download(out, patience=QUICK, **options)  # type: ignore[arg-type]
    assert caught.value.problem.code == code
    assert caught.value.problem.mend and "\n" not in str(caught.value)
    assert not (out / ROOT / MARKER).exists()
    return caught.value


def test_the_dataset_is_fetched_checked_and_unpacked(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(tmp_path / "new" / "data", expected=facts, patience=QUICK) == tmp_path / "new" / "data" / ROOT
    assert_whole(tmp_path / "new" / "data")
    assert files_below(tmp_path / "new" / "data") == TREE  # and neither archive nor note
    captured = capsys.readouterr()
    assert captured.out == "" and "a licence" in captured.err and "a paper" in captured.err


def test_a_rerun_after_success_does_nothing(server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path) -> None:
    download(tmp_path, expected=facts, patience=QUICK)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / ROOT).rglob("*")}
    download(tmp_path, expected=facts, patience=QUICK)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ROOT).rglob("*")} == before
    assert len(server.requests) == 1


def test_the_archive_is_kept_where_that_is_asked_for(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path
) -> None:
    download(tmp_path, expected=facts, keep_archive=True, patience=QUICK)
    assert (tmp_path / NAME).read_bytes() == TAR
    (tmp_path / ROOT / "dataset.json").unlink()
    download(tmp_path, expected=facts, keep_archive=True, patience=QUICK)
    assert_whole(tmp_path)
    assert len(server.requests) == 1


def test_row_01_connection_drops(server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path) -> None:
    server.script += [drops_after(3000)] * 4
    error = refused(tmp_path, MachineError, "network", expected=facts)
    assert error.exit_code == 5
    assert (tmp_path / f"{NAME}.part").read_bytes() == TAR[:12000]
    download(tmp_path, expected=facts, patience=QUICK)
    assert server.ranges == ["", "bytes=3000-", "bytes=6000-", "bytes=9000-", "bytes=12000-"]
    assert_whole(tmp_path)
    assert files_below(tmp_path) == TREE


def test_row_01_server_stalls(server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path) -> None:
    server.script += [stalls_after(2000)]
    download(tmp_path, expected=facts, patience=HASTY)
    assert_whole(tmp_path)


def test_row_01_another_address_with_a_digest(server: MisbehavingServer, tmp_path: Path) -> None:
    server.script += [says(302, Location="/mirror/x.tar"), drops_after(5000)]
    download(tmp_path, source=server.url("x.tar"), sha256=f" {SHA256.upper()}\n", patience=QUICK)
    assert_whole(tmp_path)
    assert [path for path, _ in server.requests] == ["/x.tar", "/mirror/x.tar", "/x.tar"]


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_row_02_wrong_hash(server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path, sha256: str | None) -> None:
    server.content = TAR[:3000] + bytes([TAR[3000] ^ 1]) + TAR[3001:]
    error = refused(tmp_path, IntegrityError, "hash-mismatch", source=server.url(), sha256=sha256, expected=facts)
    assert error.exit_code == 4
    assert SHA256 in error.problem.expected
    assert hashlib.sha256(server.content).hexdigest() in error.problem.found
    assert (facts.md5 in error.problem.expected) == (sha256 is None)
    assert files_below(tmp_path) == []
    server.content = TAR  # the rerun fetches it anew
    download(tmp_path, source=server.url(), sha256=sha256, expected=facts, patience=QUICK)
    assert_whole(tmp_path)


def test_row_02_the_md5_counts_as_well(server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path) -> None:
    error = refused(tmp_path, IntegrityError, "hash-mismatch", expected=replace(facts, md5="0" * 32))
    assert "md5 " + "0" * 32 in error.problem.expected and facts.md5 in error.problem.found


def test_row_02_a_part_with_foreign_bytes_is_found_out_by_the_hash(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(b"?" * 100)
    refused(tmp_path, IntegrityError, "hash-mismatch", expected=facts)
    download(tmp_path, expected=facts, patience=QUICK)
    assert_whole(tmp_path)


def test_row_03_html_page(server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path) -> None:
    server.script += [sends(b"<html>Please log in</html>", Content_Type="text/html")]
    error = refused(tmp_path, IntegrityError, "html-page", expected=facts)
    assert error.exit_code == 4 and error.problem.file == server.url()
    download(tmp_path, expected=facts, patience=QUICK)
    assert_whole(tmp_path)


@pytest.mark.parametrize("content", [TAR[:-1], TAR + b"x", b""])
def test_row_03_wrong_length(server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path, content: bytes) -> None:
    server.content = content
    error = refused(tmp_path, IntegrityError, "wrong-length", expected=facts)
    assert error.exit_code == 4
    assert error.problem.expected == f"{len(TAR)} bytes" and error.problem.found == f"{len(content)} bytes"
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "form", ["parent folder", "absolute path", "symbolic link as a scan", "setuid", "the same name twice", "size bomb"]
)
def test_row_04_05_06_a_harmful_archive_is_refused_even_with_its_digest(
    server: MisbehavingServer, tmp_path: Path, form: str
) -> None:
    code, make = FORMS[form]
    make(tmp_path / "bad.tar")
    server.content = (tmp_path / "bad.tar").read_bytes()
    sha256 = hashlib.sha256(server.content).hexdigest()
    box = tmp_path / "a" / "b"
    error = refused(box / "out", IntegrityError, code, source=server.url(), sha256=sha256)
    assert error.exit_code == 4
    left = [name for name in everything_below(tmp_path / "a") if "lung_" in name or "escaped" in name]
    assert left == []


def test_row_07_truncated_tar(server: MisbehavingServer, tmp_path: Path) -> None:
    server.content = TAR[:9000]
    sha256 = hashlib.sha256(server.content).hexdigest()
    error = refused(tmp_path, IntegrityError, "truncated-archive", source=server.url(), sha256=sha256)
    assert error.exit_code == 4
    assert not (tmp_path / ROOT).exists()


def test_row_07_a_killed_extraction_is_repaired_from_the_archive_that_is_there(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def killed(source: str, target: str | Path) -> None:
        if Path(target).name == "lung_003.nii.gz":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        download(tmp_path, expected=facts, patience=QUICK)
    monkeypatch.setattr(files.os, "replace", real)
    assert (tmp_path / ROOT / "imagesTr/lung_001.nii.gz").exists()
    assert not (tmp_path / ROOT / MARKER).exists()
    download(tmp_path, expected=facts, patience=QUICK)
    assert_whole(tmp_path)
    assert files_below(tmp_path) == TREE
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["imagesTr/lung_001.nii.gz", "dataset.json"])
def test_row_07_a_file_that_was_damaged_later_is_repaired(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path, name: str
) -> None:
    root = download(tmp_path, expected=facts, patience=QUICK)
    (root / name).write_bytes((root / name).read_bytes()[:-1] + b"\1")
    download(tmp_path, expected=facts, patience=QUICK)
    assert_whole(tmp_path)
    assert len(server.requests) == 2


def test_row_08_disk_full_is_said_before_anything_is_asked_of_the_network(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = replace(facts, bytes=TASK06.bytes)  # the archive and the tree: twice 9.16 GB
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - 18_327_393_279, 18_327_393_279)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    error = refused(tmp_path, MachineError, "disk-space", expected=big)
    assert error.exit_code == 5
    assert error.problem.expected == "18.33 GB" and error.problem.found == "18.33 GB"
    assert server.requests == [] and files_below(tmp_path) == []
    enough = usage._replace(free=usage.free + 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: enough)
    refused(tmp_path, IntegrityError, "wrong-length", expected=big)  # it went on to the server


def command(server: MisbehavingServer, out: Path) -> list[str]:
    return ["download", str(out), "--source", server.url(), "--sha256", SHA256]


@contextlib.contextmanager
def another_process(server: MisbehavingServer, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real `lungseg download` that has got 4000 bytes and waits for more; it is killed in the end."""
    server.script.append(stalls_after(4000))
    program = "import sys; from lungseg.cli import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", program, *command(server, out)], stderr=subprocess.DEVNULL)
    try:
        part = out / f"{NAME}.part"
        deadline = time.monotonic() + 20
        while not part.exists() or not server.requests:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_row_09_two_downloads_at_once_and_a_kill_of_the_first(
    server: MisbehavingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_process(server, tmp_path) as process:
        assert main(command(server, tmp_path)) == main([*command(server, tmp_path), "--wait", "0.2"]) == 5
        error = capsys.readouterr().err.splitlines(keepends=True)[0]
        assert error.count("\n") == 1 and "another lungseg process" in error and str(tmp_path) in error
        assert len(server.requests) == 1
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    # The lock died with its process.
    assert main(command(server, tmp_path)) == 0
    assert f"next: lungseg verify {tmp_path / ROOT}" in capsys.readouterr().out
    assert_whole(tmp_path)
    assert files_below(tmp_path) == TREE


def test_row_09_a_second_download_that_waits_finds_the_work_done(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: float) -> None:
        begun.set()
        assert go_on.wait(10)

    server.script += [drops_after(100)]
    first = threading.Thread(
        target=download, args=(tmp_path,), kwargs={"expected": facts, "patience": replace(QUICK, sleep=wait)}
    )
    first.start()
    try:
        assert begun.wait(10)
        refused(tmp_path, MachineError, "locked", expected=facts)
        refused(tmp_path, MachineError, "locked", expected=facts, wait_s=0.1)
        threading.Timer(0.1, go_on.set).start()
        assert download(tmp_path, expected=facts, wait_s=20, patience=QUICK) == tmp_path / ROOT
    finally:
        go_on.set()
        first.join(10)
    assert_whole(tmp_path)
    assert len(server.requests) == 2


def test_an_interrupted_download_keeps_its_part(server: MisbehavingServer, tmp_path: Path) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    server.script += [drops_after(4000)]
    with pytest.raises(KeyboardInterrupt):
        download(tmp_path, source=server.url(), sha256=SHA256, patience=replace(QUICK, sleep=interrupt))
    assert (tmp_path / f"{NAME}.part").read_bytes() == TAR[:4000]
    assert main(command(server, tmp_path)) == 0
    assert server.ranges == ["", "bytes=4000-"]


def archive_of(kind: str, folder: Path) -> Path:
    path = folder / f"mine.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as pack:
            for name, content in GOOD_FILES.items():
                pack.writestr(name, content)
    else:
        path.write_bytes(TAR if kind == "tar" else gzip.compress(TAR))
    return path


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_of_the_users_own_is_unpacked_and_left_as_it_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_on_this_machine(monkeypatch)
    path = archive_of(kind, tmp_path)
    data, sha256 = path.read_bytes(), hashlib.sha256(path.read_bytes()).hexdigest()
    out = tmp_path / "out"
    error = refused(out, IntegrityError, "wrong-length", source=path)
    assert "--sha256" in error.problem.mend
    refused(out, IntegrityError, "hash-mismatch", source=path, sha256="0" * 64)
    download(out, source=path, sha256=sha256)
    assert_whole(out, sha256)
    assert path.read_bytes() == data
    download(out, source=path, sha256=sha256)
    path.unlink()
    download(out, source=path, sha256=sha256)  # finished work needs no archive


def test_an_archive_that_was_put_into_the_output_folder_by_hand_is_used_and_stays(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(TAR)
    download(tmp_path, expected=facts, patience=QUICK)
    assert_whole(tmp_path)
    assert server.requests == [] and (tmp_path / NAME).read_bytes() == TAR


@pytest.mark.parametrize("part_too", [False, True])
def test_another_archive_that_stands_in_the_output_folder_is_refused_and_stays(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path, part_too: bool
) -> None:
    if part_too:  # a download that was cut off, before the user put a file of another origin there
        server.script += [drops_after(100)] * 4
        refused(tmp_path, MachineError, "network", expected=facts)
    (tmp_path / NAME).write_bytes(b"my own")
    error = refused(tmp_path, IntegrityError, "wrong-length", expected=facts)
    assert error.problem.mend.startswith("Remove it")
    assert (tmp_path / NAME).read_bytes() == b"my own"


def test_a_tree_of_another_archive_is_not_mixed_with_this_one(
    server: MisbehavingServer, facts: ArchiveFacts, tmp_path: Path
) -> None:
    download(tmp_path, expected=facts, patience=QUICK)
    before = everything_below(tmp_path)
    with pytest.raises(UsageError, match="another archive"):
        download(tmp_path, source=server.url(), sha256="1" * 64, patience=QUICK)
    assert everything_below(tmp_path) == before


def test_sources_and_digests_that_can_not_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_on_this_machine(monkeypatch)
    cases = {
        "bad-address": {"source": "http://data.example/a.tar"},
        "no-such-source": {"source": "awss"},
        "is-a-folder": {"source": tmp_path},
        "bad-digest": {"sha256": "8afd997733c7fc0432f71255ba4e52dc"},
    }
    for code, options in cases.items():
        with pytest.raises(UsageError) as caught:
            download(tmp_path / "out", **options)  # type: ignore[arg-type]
        assert caught.value.problem.code == code and caught.value.exit_code == 2
    assert files_below(tmp_path) == []


def test_the_command_says_stage_file_reason_and_mend_on_one_line(
    server: MisbehavingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script += [says(404)]
    assert main(command(server, tmp_path)) == 5
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(part in error for part in ("download", server.url(), "404", "Check the address"))

"""Atomic writing, folders and free space."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

import pytest

from lungseg import files
from lungseg.cli import main
from lungseg.errors import MachineError, UsageError

from .volumes import chest_like, write_volume


def test_atomic_write_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    files.atomic_write(path, b"new", durable=True)
    assert path.read_bytes() == b"new"
    assert [item.name for item in tmp_path.iterdir()] == ["a.bin"]


def test_an_error_while_writing_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".bin"
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_the_machine_s_fault_and_keeps_the_old_file(tmp_path: Path, number: int, monkeypatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(MachineError) as caught:
        files.atomic_write(path, b"new")
    assert caught.value.problem.code == "disk-full" and caught.value.exit_code == 5
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "link to standard output", "socket"])
def test_row_48_what_is_no_plain_file_is_never_moved_over(tmp_path: Path, kind: str, capsys) -> None:
    # As the superuser, `--json /dev/null` took the machine's /dev/null away.
    path = tmp_path / "out.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.relpath(path))  # its address is at most some 100 bytes
    else:
        path.symlink_to("/dev/null" if kind == "link to a device" else "/proc/self/fd/1")
    before = os.lstat(path)
    with pytest.raises(UsageError, match="where a file is wanted"):
        files.atomic_write(path, b"new")
    write_volume(tmp_path / "scans" / "a" / "image.nii.gz", chest_like((8, 8, 4)))
    assert main(["verify", str(tmp_path / "scans"), "--json", str(path), "--workers", "1"]) == 2
    assert "out.json: is a device, a pipe or a socket" in capsys.readouterr().err
    assert os.path.samestat(os.lstat(path), before)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out.json", "scans"]


def test_long_names_work(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 240 + ".nii.gz")
    files.atomic_write(path, b"1")
    assert path.read_bytes() == b"1"
    longest = tmp_path / ("\u80ba" * 83 + ".json")  # 254 bytes
    files.atomic_write(longest, b"1", durable=True)
    assert longest.read_bytes() == b"1" and len(list(tmp_path.iterdir())) == 2


def test_free_space_is_asked_before(tmp_path: Path) -> None:
    files.require_free_space(tmp_path / "not" / "there", 1, stage="preprocess")
    with pytest.raises(MachineError) as caught:
        files.require_free_space(tmp_path, shutil.disk_usage(tmp_path).total + 1, stage="preprocess")
    assert caught.value.exit_code == 5 and "GB" in str(caught.value)


def test_a_file_where_a_folder_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError):
            files.make_folder(folder)


def test_row_45_what_killed_writers_of_a_file_left_is_cleared_once_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "mask [1].nii.gz"
    old, young, other = (
        tmp_path / f"{files.TEMPORARY_PREFIX}{name}"
        for name in (f"00-{path.name}", f"11-{path.name}", "22-other.nii.gz")
    )
    for leftover in (old, young, other):
        leftover.write_bytes(b"half")
    for leftover in (old, other):
        os.utime(leftover, (1, 1))
    files.atomic_write(path, b"whole", durable=True)
    assert sorted(tmp_path.iterdir()) == sorted([path, young, other])

"""Unpacking: faults rows 4 to 8 and the reader of archives against Python's own ``tarfile`` as the oracle."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from lungseg import archive, files
from lungseg.archive import MARKER, damaged_files, unpack
from lungseg.archive_plan import Limits, plan_of, read_members
from lungseg.errors import IntegrityError, MachineError, UsageError

from .malicious_tars import END, FORMS, GOOD_FILES, ROOT, entry, everything_below, good_members, good_tar

ORIGIN = {"sha256": "0" * 64}
ROWS = {
    "unsafe-path": "04",
    "member-type": "05",
    "duplicate-member": "06",
    "too-many-members": "06",
    "too-large": "06",
    "truncated-archive": "07",
}


def write_tar(folder: Path, data: bytes | None = None) -> Path:
    path = folder / "archive.tar"
    path.write_bytes(good_tar() if data is None else data)
    return path


def assert_whole(root: Path) -> None:
    found = {f"{ROOT}/{p.relative_to(root)}": p.read_bytes() for p in root.rglob("*") if p.is_file()}
    marker = json.loads(found.pop(f"{ROOT}/{MARKER}"))
    assert found == GOOD_FILES
    assert {f"{ROOT}/{name}": record["sha256"] for name, record in marker["files"].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in GOOD_FILES.items()
    }
    assert damaged_files(root, ORIGIN) == []


@pytest.mark.parametrize("name", FORMS, ids=[f"row_{ROWS.get(code, '06')}_{n}" for n, (code, _) in FORMS.items()])
def test_refused_before_any_write(name: str, tmp_path: Path) -> None:
    code, make = FORMS[name]
    box = tmp_path / "a" / "b"
    box.mkdir(parents=True)
    make(box / "archive.tar")
    before = everything_below(tmp_path)
    with pytest.raises(IntegrityError) as caught:
        unpack(box / "archive.tar", box / "out", origin=ORIGIN)
    assert caught.value.problem.code == code
    assert caught.value.exit_code == 4
    assert caught.value.problem.mend
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip"])
def test_good_archive_is_unpacked_and_macos_files_are_left_out(form: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
            for name, content in {**GOOD_FILES, "__MACOSX/x": b"", f"{ROOT}/._dataset.json": b""}.items():
                pack.writestr(name, content)
    else:
        path.write_bytes(good_tar() if form == "tar" else gzip.compress(good_tar()))
    assert plan_of(path).macos == 2
    root = unpack(path, tmp_path / "out", origin=ORIGIN)
    assert root == tmp_path / "out" / ROOT
    assert_whole(root)
    assert all(stat.S_IMODE(p.stat().st_mode) & 0o7111 == 0 for p in root.rglob("*") if p.is_file())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reader_agrees_with_tarfile(form: int, tmp_path: Path) -> None:
    names = ["a", "b/" + "n" * 90 + "/c", "ü" * 20, "d/" + "m" * 60 + "/" + "k" * 60]
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w", format=form) as pack:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 700 * number, 1.5 if form == tarfile.PAX_FORMAT else 1
            pack.addfile(info, io.BytesIO(bytes([number]) * info.size))
    with tarfile.open(path) as pack:
        oracle = [(m.name, m.size, pack.extractfile(m).read()) for m in pack]  # type: ignore[union-attr]
    assert [(m.name, m.size, content.read(10**6)) for m, content in read_members(path)] == oracle


def test_other_names_are_left_out_and_counted(tmp_path: Path) -> None:
    others = ["README.md", f"{ROOT}/run.sh", f"{ROOT}/imagesTr/lung_1.nii.gz", f"{ROOT}/imagesTr/lung_٠٠١.nii.gz"]
    others += [f"{ROOT}/imagesTr/sub/lung_009.nii.gz", f"x/{ROOT}/imagesTr/lung_009.nii.gz", "dataset.json"]
    path = write_tar(tmp_path, good_members() + b"".join(entry(name, b"x") for name in others) + END)
    assert plan_of(path).others == others
    assert_whole(unpack(path, tmp_path / "out", origin=ORIGIN))


def test_any_root_takes_the_dataset_from_another_folder(tmp_path: Path) -> None:
    path = tmp_path / "kaggle.zip"
    with zipfile.ZipFile(path, "w") as pack:
        for name, content in GOOD_FILES.items():
            pack.writestr("some folder/" + name, content)
    with pytest.raises(IntegrityError, match="no Task06_Lung"):
        plan_of(path)
    assert_whole(unpack(path, tmp_path / "out", origin=ORIGIN, any_root=True))


def test_row_06_limits_are_those_given(tmp_path: Path) -> None:
    path = write_tar(tmp_path)
    total = sum(map(len, GOOD_FILES.values())) + 6  # the two files of macOS have 3 bytes each
    exact = Limits(files=len(GOOD_FILES), file_bytes=max(map(len, GOOD_FILES.values())), total_bytes=total)
    plan_of(path, limits=exact)
    for tight in (
        Limits(exact.files - 1, exact.file_bytes, exact.total_bytes),
        Limits(exact.files, exact.file_bytes - 1, exact.total_bytes),
        Limits(exact.files, exact.file_bytes, exact.total_bytes - 1),
    ):
        with pytest.raises(IntegrityError):
            plan_of(path, limits=tight)


@pytest.mark.parametrize("kind", ["link", "setuid", "encrypted", "parent", "short", "flip"])
def test_row_05_bad_zips_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    info = zipfile.ZipInfo("../x" if kind == "parent" else f"{ROOT}/imagesTr/lung_005.nii.gz")
    info.external_attr = {"link": stat.S_IFLNK | 0o777, "setuid": stat.S_IFREG | 0o4755}.get(kind, 0o644) << 16
    with zipfile.ZipFile(path, "w") as pack:
        for name, content in GOOD_FILES.items():
            pack.writestr(name, content)
        pack.writestr(info, b"content to flip")
    data = bytearray(path.read_bytes())
    if kind == "encrypted":
        data[data.rindex(b"PK\1\2") + 8] |= 1
    elif kind == "short":  # the directory states more bytes than there are
        at = data.rindex(b"PK\1\2") + 20
        data[at : at + 8] = (99).to_bytes(4, "little") * 2
    elif kind == "flip":
        data[data.index(b"content to flip")] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        unpack(path, tmp_path / "out", origin=ORIGIN)
    assert not (tmp_path / "out" / ROOT / MARKER).exists()


def test_row_07_killed_unpacking_is_not_taken_as_done_and_a_rerun_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_tar(tmp_path), tmp_path / "out"
    real_replace, calls = os.replace, [0]

    def killed(source: str, target: str) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        real_replace(source, target)

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        unpack(path, out, origin=ORIGIN)
    monkeypatch.undo()
    root = out / ROOT
    assert damaged_files(root, ORIGIN) is None
    kept = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}
    assert len(kept) == 2
    (root / "imagesTr" / f"{files.TEMPORARY_PREFIX}dead.gz").write_bytes(b"half")  # what SIGKILL would leave
    assert_whole(unpack(path, out, origin=ORIGIN))
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in kept} == kept


@pytest.mark.parametrize("harm", ["flip", "cut", "missing"])
def test_row_07_damaged_file_is_found_and_written_again(harm: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path)
    root = unpack(path, tmp_path / "out", origin=ORIGIN)
    victim = root / "imagesTr/lung_001.nii.gz"
    data = victim.read_bytes()
    if harm == "missing":
        victim.unlink()
    else:
        victim.write_bytes(data[:-1] if harm == "cut" else data[:50] + b"?" + data[51:])
    assert damaged_files(root, ORIGIN) == ["imagesTr/lung_001.nii.gz"]
    assert_whole(unpack(path, tmp_path / "out", origin=ORIGIN))


def test_row_08_no_room_is_said_up_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path)
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 10, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MachineError, match="not enough free space") as caught:
        unpack(path, tmp_path / "out", origin=ORIGIN)
    assert caught.value.problem.expected and caught.value.problem.found
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_row_08_disk_full_within_a_file_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path)
    real = archive._each_chunk

    def full(content, size, tick, use):  # type: ignore[no-untyped-def]
        if size == len(GOOD_FILES[f"{ROOT}/imagesTr/lung_003.nii.gz"]):
            use(content.read(100))
            raise OSError(28, "No space left on device")
        return real(content, size, tick, use)

    monkeypatch.setattr(archive, "_each_chunk", full)
    with pytest.raises(MachineError, match="disk is full"):
        unpack(path, tmp_path / "out", origin=ORIGIN)
    left = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert {f"{ROOT}/{p.relative_to(tmp_path / 'out' / ROOT)}" for p in left} <= set(GOOD_FILES)
    assert all(p.read_bytes() == GOOD_FILES[f"{ROOT}/{p.relative_to(tmp_path / 'out' / ROOT)}"] for p in left)


def test_a_link_in_the_tree_is_not_written_through(tmp_path: Path) -> None:
    path, elsewhere = write_tar(tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "out" / ROOT
    root.mkdir(parents=True)
    (root / "imagesTr").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="symbolic link"):
        unpack(path, tmp_path / "out", origin=ORIGIN)
    (root / "imagesTr").unlink()
    (root / "imagesTr").mkdir()
    (root / "imagesTr/lung_001.nii.gz").symlink_to(elsewhere / "file")
    assert_whole(unpack(path, tmp_path / "out", origin=ORIGIN))
    assert list(elsewhere.iterdir()) == []


def test_marker_of_another_archive_or_version_is_refused(tmp_path: Path) -> None:
    root = unpack(write_tar(tmp_path), tmp_path / "out", origin=ORIGIN)
    with pytest.raises(UsageError, match="another archive"):
        damaged_files(root, {"sha256": "1" * 64})
    (root / MARKER).write_text('{"format": 2}')
    with pytest.raises(UsageError, match="no record"):
        damaged_files(root, ORIGIN)


@pytest.mark.parametrize("record", [None, [], {}, {"bytes": "1", "sha256": "a"}, {"bytes": 1}])
def test_a_marker_whose_files_can_not_be_meant_is_refused(tmp_path: Path, record: object) -> None:
    (tmp_path / MARKER).write_text(json.dumps({"format": 1, "origin": {}, "files": {"dataset.json": record}}))
    with pytest.raises(UsageError, match="lists files without size or hash"):
        damaged_files(tmp_path, {})


def test_a_missing_archive_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        plan_of(tmp_path / "none.tar")

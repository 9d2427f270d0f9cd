"""A folder of arrays: numpy reads them, they appear at once, and nothing is left of one that broke off."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest

from lungseg.digests import digest
from lungseg.errors import MachineError
from lungseg.slice_folder import NpyFile, new_folder


@pytest.mark.parametrize(("shape", "dtype"), [((16, 16), np.float16), ((8, 8), np.uint8), ((3, 1, 5), np.uint8)])
def test_the_bytes_are_those_of_numpy(shape: tuple[int, ...], dtype: type, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    file = NpyFile(shape, dtype)
    with new_folder(tmp_path / "images") as folder:
        zeros = folder.write_zeros("zeros.npy", file)
        file.array[...] = array
        filled = folder.write("filled.npy", file)
        assert not (tmp_path / "images").exists()  # not before all are there
    for name, content, found in (("zeros", np.zeros(shape, dtype), zeros), ("filled", array, filled)):
        plain = io.BytesIO()
        np.save(plain, content, allow_pickle=False)
        data = (tmp_path / f"images/{name}.npy").read_bytes()
        assert data == plain.getvalue() and found == digest(data)


def test_what_stood_there_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/000.npy").write_bytes(b"old")
    (tmp_path / "images/mine.txt").write_bytes(b"mine")
    file = NpyFile((4, 4), np.uint8)
    with new_folder(tmp_path / "images") as folder:
        folder.write("000.npy", file)
    assert (tmp_path / "images/mine.txt").read_bytes() == b"mine"
    assert (tmp_path / "images/000.npy").read_bytes() == bytes(file.data)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_an_error_inside_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_folder(tmp_path / "images") as folder:
        folder.write("000.npy", NpyFile((4, 4), np.uint8))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_file_and_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = os.write, iter(range(3))

    def short(handle: int, data: memoryview) -> int:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data[:100])

    monkeypatch.setattr(os, "write", short)
    file = NpyFile((4, 40), np.uint8)  # 288 bytes, so three writes
    with pytest.raises(MachineError) as caught, new_folder(tmp_path / "images") as folder:
        folder.write("000.npy", file)
        folder.write("001.npy", file)
    assert caught.value.problem.code == "disk-full" and caught.value.problem.file.endswith("images/001.npy")
    assert list(tmp_path.iterdir()) == []

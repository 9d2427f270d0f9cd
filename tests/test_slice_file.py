"""Slice files: read only where they are exactly what is expected, and never unpickled."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lungseg.digests import digest
from lungseg.errors import DataError, IntegrityError, MachineError, UsageError
from lungseg.slice_file import mask_path, read_slice

SIZE = 8


def npy(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float16)


def damaged(path: Path, data: bytes) -> DataError:
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_slice(path, np.float16, SIZE)
    assert caught.value.problem.code == "bad-slice" and caught.value.problem.file == str(path)
    assert "lungseg preprocess" in caught.value.problem.mend and "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_reads_what_numpy_wrote(tmp_path: Path, dtype: type) -> None:
    array = np.random.default_rng(0).integers(0, 2, (SIZE, SIZE)).astype(dtype)
    data = npy(array)
    (tmp_path / "030.npy").write_bytes(data)
    for wanted in (None, digest(data)):
        found = read_slice(tmp_path / "030.npy", dtype, SIZE, wanted)
        assert found.dtype == dtype and found.shape == (SIZE, SIZE)
        np.testing.assert_array_equal(found, array)


def test_the_hash_is_asked_first(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "030.npy"
    path.write_bytes(npy(array * 2))
    with pytest.raises(IntegrityError) as caught:
        read_slice(path, np.float16, SIZE, digest(npy(array)))
    assert caught.value.exit_code == 4 and caught.value.problem.file == str(path)


def test_a_missing_slice_and_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"031\.npy: the slice is missing"):
        read_slice(tmp_path / "031.npy", np.float16, SIZE)
    with pytest.raises(MachineError):
        read_slice(tmp_path, np.float16, SIZE)


def test_row_29_zero_filled_truncated_and_longer_files(tmp_path: Path, array: np.ndarray) -> None:
    data = npy(array)
    for spoilt in (bytes(len(data)), data[:-2], data[:100], data[:5], b"", data + b"\0"):
        damaged(tmp_path / "030.npy", spoilt)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (np.zeros((SIZE, SIZE), np.float32), "float32"),
        (np.zeros((SIZE, SIZE), ">f2"), ">f2"),
        (np.zeros((SIZE, SIZE - 1), np.float16), "[8, 7]"),
        (np.zeros((1, SIZE, SIZE), np.float16), "[1, 8, 8]"),
        (np.asfortranarray(np.eye(SIZE, dtype=np.float16) + np.arange(SIZE, dtype=np.float16)), "column by column"),
    ],
)
def test_other_arrays_are_refused_by_what_they_are(tmp_path: Path, other: np.ndarray, said: str) -> None:
    assert said in str(damaged(tmp_path / "030.npy", npy(other)))


class Trap:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_row_33_an_object_array_is_never_unpickled(tmp_path: Path) -> None:
    data = npy(np.array([[Trap(tmp_path / "sprung")]], dtype=object), allow_pickle=True)
    np.load(io.BytesIO(data), allow_pickle=True)  # the trap works ...
    (tmp_path / "sprung").unlink()
    damaged(tmp_path / "030.npy", data)
    assert not (tmp_path / "sprung").exists()  # ... and was not trodden on


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.one_of(st.sampled_from(b"{}()[]'\"\\ \n\t,:#x09"), st.integers(0, 255))),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_header_is_said_to_be_damaged_and_nothing_else(tmp_path: Path, changes: list) -> None:
    data = bytearray(npy(np.zeros((SIZE, SIZE), np.float16)))
    for at, value in changes:
        data[at] = value
    (tmp_path / "030.npy").write_bytes(data)
    try:
        # Some changes are harmless, such as a blank in the header's padding.
        assert not read_slice(tmp_path / "030.npy", np.float16, SIZE).any()
    except DataError as error:
        assert error.problem.code == "bad-slice"


@pytest.mark.parametrize("brackets", [b"(((((", b"{'a':", b"{[]: 1}", b"-" * 60, b"{b'a': 1, 'b': 2}"])
def test_headers_that_numpys_parser_stumbles_over(tmp_path: Path, brackets: bytes) -> None:
    data = npy(np.zeros((SIZE, SIZE), np.float16))
    damaged(tmp_path / "030.npy", data[:10] + brackets.ljust(117) + b"\n" + data[128:])


def test_the_mask_lies_beside_the_image() -> None:
    assert mask_path("images/images/030.npy") == Path("images/masks/030.npy")
    assert mask_path(Path("/a b/ü/images/images/1000.npy")) == Path("/a b/ü/images/masks/1000.npy")
    for wrong in ("030.npy", "case/masks/030.npy", "images/case/030.npy"):
        with pytest.raises(UsageError, match="no slice's image"):
            mask_path(wrong)

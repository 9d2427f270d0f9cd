"""The reading gate, against nibabel as the oracle, and the faults of rows 10 to 24."""

from __future__ import annotations

import gzip
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lungseg.errors import DataError, MachineError, UsageError
from lungseg.nifti import read_label, read_scan, write_mask

from .volumes import affine_of, chest_like, raw_bytes, write_raw, write_volume

SHAPE = (12, 10, 7)
DIM, DATATYPE, BITPIX, PIXDIM, OFFSET, SLOPE, INTER, UNITS, QFORM, SFORM, SROW = (
    40,
    70,
    72,
    76,
    108,
    112,
    116,
    123,
    252,
    254,
    280,
)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_volume(tmp_path / "lung_001.nii.gz", chest_like(SHAPE))


def patched(path: Path, offset: int, form: str, *values: float) -> Path:
    """A scan with one header field changed."""
    data = raw_bytes(chest_like(SHAPE))
    struct.pack_into("<" + form, data, offset, *values)
    return write_raw(path, bytes(data))


def refused(path: Path, code: str, reader=read_scan) -> DataError:
    with pytest.raises(DataError) as caught:
        reader(path)
    assert caught.value.problem.code == code
    assert caught.value.problem.file == str(path)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "f4", "f8", "u1", "i1", "u4"])
def test_reads_what_nibabel_reads(tmp_path: Path, suffix: str, kind: type, dtype: str) -> None:
    array = np.random.default_rng(1).integers(0, 100, SHAPE).astype(dtype)
    path = write_volume(tmp_path / f"a{suffix}", array, affine_of("PSR"), kind)
    scan, oracle = read_scan(path), nib.load(path)
    np.testing.assert_array_equal(scan.voxels, oracle.get_fdata())
    np.testing.assert_allclose(scan.affine, oracle.affine, atol=1e-6)
    assert scan.bytes == path.stat().st_size
    np.testing.assert_allclose(scan.spacing_mm, oracle.header.get_zooms()[:3], rtol=1e-5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(tmp_path: Path, order: str) -> None:
    header = nib.Nifti1Header(endianness=order)
    array = chest_like(SHAPE)
    image = nib.Nifti1Image(array, affine_of("LAS"), header)
    assert image.header.endianness == order
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii.gz").voxels, array)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_2_of_the_other_byte_order_and_its_mask(tmp_path: Path, suffix: str) -> None:
    array, header = chest_like(SHAPE), nib.Nifti2Header(endianness=">")
    image = nib.Nifti2Image(array, affine_of("PSR"), header)
    assert image.header.endianness == ">" and image.header["sizeof_hdr"] == 540
    nib.save(image, tmp_path / f"a{suffix}")
    scan = read_scan(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(scan.voxels, array)
    np.testing.assert_allclose(scan.affine, image.affine, atol=1e-6)
    write_mask(tmp_path / f"mask{suffix}", (array > 0).astype(np.uint8), scan)
    mask = nib.load(tmp_path / f"mask{suffix}")
    assert isinstance(mask, nib.Nifti2Image)
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), array > 0)
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-6)


def test_scaling_gives_hu(tmp_path: Path) -> None:
    stored = (chest_like(SHAPE).astype(int) + 1024).clip(0).astype(np.uint16)
    data = raw_bytes(stored)
    struct.pack_into("<2f", data, SLOPE, 2.0, -1024.0)
    scan = read_scan(write_raw(tmp_path / "a.nii", bytes(data)))
    np.testing.assert_allclose(scan.voxels, stored * 2.0 - 1024)


def test_integers_stay_integers_and_views_cost_nothing(scan: Path) -> None:
    voxels = read_scan(scan).voxels
    assert voxels.dtype == np.int16 and voxels.flags.f_contiguous


def test_gzip_of_several_members_is_read(tmp_path: Path) -> None:
    array = chest_like(SHAPE)
    data = bytes(raw_bytes(array))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data[:700]) + gzip.compress(data[700:]))
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii.gz").voxels, array)


def test_written_mask_lies_on_the_grid_of_its_scan(tmp_path: Path, scan: Path) -> None:
    mask = (chest_like(SHAPE) > 0).astype(np.uint8)
    write_mask(tmp_path / "m.nii.gz", mask, read_scan(scan))
    written = nib.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    np.testing.assert_array_equal(written.affine, nib.load(scan).affine)
    assert written.get_data_dtype() == np.uint8
    assert written.header.get_xyzt_units()[0] == "mm"
    first = (tmp_path / "m.nii.gz").read_bytes()
    write_mask(tmp_path / "m.nii.gz", mask, read_scan(scan))
    assert (tmp_path / "m.nii.gz").read_bytes() == first


def test_row_11_gzip_cut_in_half(scan: Path) -> None:
    data = scan.read_bytes()
    scan.write_bytes(data[: len(data) // 2])
    refused(scan, "gzip-truncated")


def test_row_11_gzip_cut_in_its_trailer(scan: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:-3])
    refused(scan, "gzip-truncated")


def test_row_12_every_flipped_bit_of_the_payload_is_found(scan: Path) -> None:
    data = scan.read_bytes()
    rng = np.random.default_rng(3)
    for at in rng.integers(20, len(data), 60):
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        scan.write_bytes(broken)
        with pytest.raises(DataError):
            read_scan(scan)


def test_row_12_bad_crc(scan: Path) -> None:
    data = bytearray(scan.read_bytes())
    data[-8] ^= 1
    scan.write_bytes(data)
    refused(scan, "gzip-damaged")


def test_row_12_wrong_length_in_the_trailer(scan: Path) -> None:
    data = bytearray(scan.read_bytes())
    data[-1] ^= 1
    scan.write_bytes(data)
    refused(scan, "gzip-damaged")


def test_row_13_bytes_after_the_gzip_stream(scan: Path) -> None:
    scan.write_bytes(scan.read_bytes() + b"junk")
    refused(scan, "trailing-bytes")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_row_13_bytes_after_the_data(tmp_path: Path, name: str) -> None:
    refused(write_raw(tmp_path / name, bytes(raw_bytes(chest_like(SHAPE))) + b"\0\0"), "trailing-bytes")


def test_row_14_huge_dims_are_refused_from_the_header(tmp_path: Path) -> None:
    path = patched(tmp_path / "a.nii.gz", DIM, "4h", 3, 32767, 32767, 32767)
    tracemalloc.start()
    started = time.perf_counter()
    refused(path, "too-large")
    assert time.perf_counter() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_row_14_gzip_bomb(tmp_path: Path) -> None:
    # 400 MB of zeros behind a header that asks for a tiny scan: it stops at the first byte too many.
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(bytes(raw_bytes(chest_like(SHAPE))))
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(packed)
    tracemalloc.start()
    started = time.perf_counter()
    refused(path, "trailing-bytes")
    assert time.perf_counter() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_row_14_a_bomb_whose_header_is_honest(tmp_path: Path) -> None:
    # 8.6 GB of zeros, as its header says, would be 8 MB packed; the first bytes are all that is looked at.
    data = patched(tmp_path / "a.nii", DIM, "4h", 3, 2048, 2048, 1024).read_bytes()[:400]
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(data + bytes(8 << 20)) + packer.flush()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(packed + bytes(9_000_000 - len(packed)))
    tracemalloc.start()
    started = time.perf_counter()
    assert "2048 x 2048 x 1024" in refused(path, "too-large").problem.found
    assert time.perf_counter() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_row_14_a_scan_larger_than_the_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = patched(tmp_path / "a.nii.gz", DIM, "4h", 3, 1024, 1024, 200)
    path.write_bytes(path.read_bytes() + bytes(1_000_000))  # or its size alone would show that it lies
    monkeypatch.setattr("lungseg.memory.available_memory", lambda: 100_000_000)
    with pytest.raises(MachineError) as caught:
        read_scan(path)
    problem = caught.value.problem
    assert (problem.code, problem.file, problem.expected) == ("memory", str(path), "0.42 GB")


@pytest.mark.parametrize("content", [b"", b"x"])
def test_row_14_a_stream_in_a_million_pieces(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.nii.gz"
    start = bytes(raw_bytes(chest_like(SHAPE)))[:-100]
    path.write_bytes(gzip.compress(start) + gzip.compress(content, mtime=0) * 1_000_000)
    started = time.perf_counter()
    with pytest.raises(DataError) as caught:
        read_scan(path)
    assert caught.value.problem.code in ("gzip-members", "trailing-bytes")
    assert time.perf_counter() - started < 1


def test_gzip_in_blocks_with_an_empty_one_at_the_end_is_read(tmp_path: Path) -> None:
    data = bytes(raw_bytes(np.repeat(chest_like(SHAPE), 500, axis=2)))
    blocks = [data[at : at + 600] for at in range(0, len(data), 600)]
    assert len(blocks) > 1300
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(block, 1) for block in [*blocks, b""]))
    assert read_scan(tmp_path / "a.nii.gz").voxels.shape == (12, 10, 3500)


@pytest.mark.parametrize("dims", [(3, 11, 10, 7), (3, 12, 10, 6), (3, 12, 10, 70)])
def test_row_15_dims_do_not_match_the_data(tmp_path: Path, dims: tuple[int, ...]) -> None:
    path = patched(tmp_path / "a.nii.gz", DIM, "4h", *dims)
    with pytest.raises(DataError) as caught:
        read_scan(path)
    assert caught.value.problem.code in ("trailing-bytes", "size-mismatch")


@pytest.mark.parametrize("dims", [(3, 0, 10, 7), (3, -12, 10, 7), (9, 12, 10, 7), (0, 12, 10, 7), (-1, 12, 10, 7)])
def test_row_16_dims_of_zero_negative_or_too_many(tmp_path: Path, dims: tuple[int, ...]) -> None:
    refused(patched(tmp_path / "a.nii", DIM, "4h", *dims), "bad-dims")


@pytest.mark.parametrize("offset", [1e30, float("nan"), float("inf"), -352.0, 0.0, 351.0, 352.5])
def test_row_17_vox_offset(tmp_path: Path, offset: float) -> None:
    refused(patched(tmp_path / "a.nii.gz", OFFSET, "f", offset), "bad-offset")


@pytest.mark.parametrize("size", [-16, 0, 7, 24, 1 << 30])
def test_row_18_extension_size_lies(tmp_path: Path, size: int) -> None:
    data = raw_bytes(chest_like(SHAPE))
    struct.pack_into("<f", data, OFFSET, 352 + 32)
    data[348] = 1
    broken = data[:352] + struct.pack("<2i", size, 6) + b"x" * 24 + data[352:]
    refused(write_raw(tmp_path / "a.nii.gz", bytes(broken)), "bad-extension")


def test_row_18_an_honest_extension_is_read_past(tmp_path: Path) -> None:
    image = nib.Nifti1Image(chest_like(SHAPE), affine_of("LAS"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"anything"))
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii.gz").voxels, chest_like(SHAPE))


@pytest.mark.parametrize("slope", [1e38, float("inf"), float("-inf"), 1e4])
def test_row_19_scaling_beyond_hu(tmp_path: Path, slope: float) -> None:
    with pytest.raises(DataError) as caught:
        read_scan(patched(tmp_path / "a.nii", SLOPE, "f", slope))
    assert caught.value.problem.code in ("bad-scaling", "not-hu")


@pytest.mark.parametrize("slope", [0.0, float("nan")])
def test_row_19_slope_of_zero_or_nan_means_no_scaling(tmp_path: Path, slope: float) -> None:
    path = patched(tmp_path / "a.nii", SLOPE, "2f", slope, float("nan"))
    np.testing.assert_array_equal(read_scan(path).voxels, chest_like(SHAPE))


def test_row_19_unscaled_integers_beyond_hu(tmp_path: Path) -> None:
    data = raw_bytes(np.full(SHAPE, 1 << 24, np.int32))
    struct.pack_into("<f", data, SLOPE, float("nan"))
    refused(write_raw(tmp_path / "a.nii", bytes(data)), "not-hu")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_row_20_voxels_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    array = chest_like(SHAPE).astype(np.float32)
    array[3, 4, 5] = array[0, 0, 0] = value
    error = refused(write_volume(tmp_path / "a.nii.gz", array), "not-finite")
    assert error.problem.found.startswith("2 ")


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 7, 3), (12, 10, 7, 1, 3)])
def test_row_21_not_three_dimensional(tmp_path: Path, shape: tuple[int, ...]) -> None:
    error = refused(write_volume(tmp_path / "a.nii.gz", np.zeros(shape, np.int16)), "not-3d")
    assert "12 x 10" in error.problem.found


def test_row_21_a_fourth_axis_of_one_is_no_series(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "a.nii.gz", chest_like(SHAPE)[..., None])
    assert read_scan(path).voxels.shape == SHAPE


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_row_21_colours_and_complex_numbers(tmp_path: Path, dtype: np.dtype) -> None:
    refused(write_volume(tmp_path / "a.nii.gz", np.zeros(SHAPE, dtype)), "bad-type")


@pytest.mark.parametrize(
    "row", [(0.0, 0.0, 0.0, 0.0), (float("nan"), 0, 0, 0), (0.0, 0.8, 0.0, 0.0), (1e9, 0.0, 0.0, 0.0)]
)
def test_row_22_degenerate_affine(tmp_path: Path, row: tuple[float, ...]) -> None:
    with pytest.raises(DataError) as caught:
        read_scan(patched(tmp_path / "a.nii", SROW, "4f", *row))
    assert caught.value.problem.code in ("bad-affine", "bad-spacing")


def test_row_22_spacing_error_names_the_unit(tmp_path: Path) -> None:
    data = raw_bytes(chest_like(SHAPE), affine_of("LAS", (7e-4, 8e-4, 2.5e-3)))
    data[UNITS] = 1
    error = refused(write_raw(tmp_path / "a.nii", bytes(data)), "bad-spacing")
    assert "metres" in error.problem.found


@pytest.mark.parametrize("code", [-1, 6, 300])
@pytest.mark.parametrize("field", [QFORM, SFORM])
def test_row_22_form_codes_that_there_are_not(tmp_path: Path, field: int, code: int) -> None:
    """nibabel passes over such a form, ITK takes it: the same file would lie in two places."""
    assert "form_code" in str(refused(patched(tmp_path / "a.nii", field, "h", code), "bad-affine"))


def by_qform_alone(path: Path, *pixdim: float) -> Path:
    data = raw_bytes(chest_like(SHAPE), affine_of("RAS"))
    struct.pack_into("<2h", data, QFORM, 1, 0)
    struct.pack_into("<4f", data, PIXDIM, *pixdim)
    return write_raw(path, bytes(data))


def test_row_22_a_qfac_of_0_is_1_as_the_standard_says(tmp_path: Path) -> None:
    affine = read_scan(by_qform_alone(tmp_path / "a.nii", 0, 0.7, 0.8, 2.5)).affine
    np.testing.assert_allclose(affine, affine_of("RAS"), atol=1e-4)


@pytest.mark.parametrize(
    ("pixdim", "code"), [((2, 0.7, 0.8, 2.5), "bad-affine"), ((1, -0.7, 0.8, 2.5), "bad-spacing"),
                         ((1, 0.7, 0, 2.5), "bad-spacing"), ((1, 0.7, float("nan"), 2.5), "bad-spacing")],
)  # fmt: skip
def test_row_22_pixdim_that_readers_take_in_two_ways(tmp_path: Path, pixdim: tuple, code: str) -> None:
    refused(by_qform_alone(tmp_path / "a.nii", *pixdim), code)


def test_row_22_a_qfac_that_is_not_used_harms_nothing(tmp_path: Path) -> None:
    path = patched(tmp_path / "a.nii", PIXDIM, "f", 7.0)
    np.testing.assert_allclose(read_scan(path).affine, affine_of("LAS"), atol=1e-5)


def test_row_22_qform_and_sform_that_differ_are_warned_of(tmp_path: Path) -> None:
    image = nib.Nifti1Image(chest_like(SHAPE), affine_of("LAS"))
    image.set_qform(affine_of("LAS", origin_mm=(0, 0, 0)), 1)
    image.set_sform(affine_of("LAS"), 1)
    nib.save(image, tmp_path / "a.nii.gz")
    scan = read_scan(tmp_path / "a.nii.gz")
    assert [problem.code for problem in scan.warnings] == ["forms-differ"]
    np.testing.assert_allclose(scan.affine, affine_of("LAS"), atol=1e-5)


def test_a_tilted_scan_is_warned_of(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    path = write_volume(tmp_path / "a.nii.gz", chest_like(SHAPE), turn @ affine_of("LAS"))
    problems = read_scan(path).warnings
    assert [problem.code for problem in problems] == ["oblique"]
    assert problems[0].found == f"{np.degrees(0.3):.0f} degrees"


@pytest.mark.parametrize("strange", [0.5, 3.0, -1.0])
def test_row_24_label_values(tmp_path: Path, strange: float) -> None:
    label = np.zeros(SHAPE, np.float32)
    label[2, 2, 2], label[3, 3, 3] = 1, strange
    error = refused(write_volume(tmp_path / "a.nii.gz", label), "label-values", read_label)
    assert f"{strange:g}" in error.problem.found


def test_row_24_nan_in_a_label(tmp_path: Path) -> None:
    label = np.zeros(SHAPE, np.float32)
    label[2, 2, 2] = np.nan
    refused(write_volume(tmp_path / "a.nii.gz", label), "not-finite", read_label)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_labels_of_any_type_become_uint8(tmp_path: Path, dtype: str) -> None:
    label = np.zeros(SHAPE, dtype)
    label[2, 2, 2] = 1
    read = read_label(write_volume(tmp_path / "a.nii.gz", label))
    assert read.voxels.dtype == np.uint8 and read.voxels.sum() == 1


def test_files_that_are_no_scans(tmp_path: Path) -> None:
    refused(write_raw(tmp_path / "a.nii", b"<!DOCTYPE html>" * 100), "not-nifti")
    refused(write_raw(tmp_path / "b.nii", b""), "not-nifti")
    refused(write_raw(tmp_path / "c.nii", bytes(raw_bytes(chest_like(SHAPE)))[:200]), "truncated")
    (tmp_path / "d.nii.gz").write_bytes(b"")
    refused(tmp_path / "d.nii.gz", "empty-file")
    (tmp_path / "d.nii.gz").write_bytes(b"<!DOCTYPE html>" * 100)
    assert "DOCTYPE" in refused(tmp_path / "d.nii.gz", "not-gzip").problem.found
    (tmp_path / "d.nii.gz").write_bytes(bytes(raw_bytes(chest_like(SHAPE))))
    assert "name it .nii" in refused(tmp_path / "d.nii.gz", "not-gzip").problem.mend
    (tmp_path / "d.nii.gz").write_bytes(bytes(5000))
    assert "holds zeros only" in refused(tmp_path / "d.nii.gz", "not-gzip").problem.mend
    (tmp_path / "d.nii.gz").write_bytes(bytes(128) + b"DICM" + bytes(200))
    assert "dcm2niix" in refused(tmp_path / "d.nii.gz", "not-gzip").problem.mend
    (tmp_path / "e.dcm").write_bytes(b"DICM")
    refused(tmp_path / "e.dcm", "bad-suffix")
    for name in ("missing.nii.gz", "missing", "missing.dcm"):
        with pytest.raises(UsageError, match="no such file"):
            read_scan(tmp_path / name)
    with pytest.raises(UsageError, match="is a folder"):
        read_scan(tmp_path)
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises(UsageError):
        read_scan(tmp_path / "folder.nii.gz")


@pytest.mark.skipif("LUNGSEG_REAL" not in os.environ, reason="LUNGSEG_REAL does not name the folder of real CT")
def test_real_scan_reads_as_nibabel_reads_it() -> None:
    path = Path(os.environ["LUNGSEG_REAL"]) / "volumes" / "lung_113.nii.gz"
    scan = read_scan(path)
    assert scan.voxels.shape == (512, 512, 99) and scan.warnings == ()
    np.testing.assert_array_equal(scan.voxels, np.asarray(nib.load(path).dataobj))

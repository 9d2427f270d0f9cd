"""Header fields and affines, against nibabel as the oracle."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.nifti_fields import Fields, mask_header

from .volumes import ALL_ORIENTATIONS, affine_of

KINDS = [nib.Nifti1Header, nib.Nifti2Header]
EVERY_FIELD = ("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "xyzt_units")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=540, max_size=540), st.sampled_from("<>"))
def test_any_bytes_are_read_as_nibabel_reads_them(kind: type, noise: bytes, endianness: str) -> None:
    size = kind.template_dtype.itemsize
    block = size.to_bytes(4, "little" if endianness == "<" else "big") + noise[4:size]
    found, oracle = Fields(block), kind(block, endianness, check=False)  # left alone, nibabel would guess by dim[0]
    assert found.endianness == endianness
    for name in EVERY_FIELD:
        np.testing.assert_array_equal(found[name], oracle[name])
    np.testing.assert_array_equal(found.sform(), oracle.get_sform())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            expected = oracle.get_qform()
        except Exception:  # nibabel raises several kinds
            expected = None
        try:
            qform = found.qform()
        except ValueError:
            qform = None
    if expected is not None and np.isfinite(expected).all():
        assert qform is not None
        np.testing.assert_allclose(qform, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    else:
        assert qform is None or not np.isfinite(qform).all()


def rotation_of(degrees: tuple[float, float, float]) -> np.ndarray:
    x, y, z = np.radians(degrees)
    around_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    around_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    around_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.array(around_z) @ np.array(around_y) @ np.array(around_x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0), (0, 0)])
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(ALL_ORIENTATIONS),
    st.tuples(*[st.floats(-40, 40)] * 3),
    st.tuples(*[st.floats(0.3, 6.0)] * 3),
)
def test_affines_are_those_of_nibabel(
    kind: type, codes: tuple[int, int], orientation: str, degrees: tuple, sizes_mm: tuple
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation_of(degrees) @ affine_of(orientation, sizes_mm)[:3, :3]
    affine[:3, 3] = (12.5, -80.25, 300)
    header = kind()
    header.set_data_shape((7, 6, 5))
    header.set_zooms(sizes_mm)
    header.set_sform(affine, codes[0])
    header.set_qform(affine, codes[1])
    found = Fields(header.binaryblock)
    np.testing.assert_allclose(found.best_affine(), header.get_best_affine(), rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.qform(), header.get_qform(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [348, 540])
@pytest.mark.parametrize("codes", ALL_ORIENTATIONS)
def test_a_mask_s_header_says_where_the_mask_is(size: int, codes: str) -> None:
    affine = affine_of(codes, (0.7, 1.1, 2.5))
    block = mask_header((5, 6, 7), affine, size=size, codes=(2, 1))
    assert len(block) == size + 4 and block[size:] == bytes(4)
    written = Fields(block[:size])
    assert written.endianness == "<" and written["dim"][:4].tolist() == [3, 5, 6, 7]
    assert (written["datatype"], written["bitpix"], written["xyzt_units"]) == (2, 8, 2)
    assert (written["scl_slope"], written["scl_inter"], written["vox_offset"]) == (1, 0, size + 4)
    assert (int(written["sform_code"]), int(written["qform_code"])) == (2, 1)
    assert written["pixdim"][1:4] == pytest.approx(np.linalg.norm(affine[:3, :3], axis=0))
    for form in (written.sform(), written.qform(), written.best_affine()):
        np.testing.assert_allclose(form, affine, rtol=0, atol=1e-4)


def test_a_block_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="348 or 540"):
        Fields(bytes(352))

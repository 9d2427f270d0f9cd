"""Broken scans and pairs for benchmarks/faults.py: each fault of a tree, by its row in docs/faults.md."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (160, 150, 60)
AFFINE = np.array([[-0.8, 0, 0, 25.0], [0, 0.9, 0, -30.0], [0, 0, 2.5, -100.0], [0, 0, 0, 1]])
DIM, OFFSET, SLOPE, QFORM, SROW = 40, 108, 112, 252, 280


@dataclass(frozen=True)
class Fault:
    """One way in which a case is broken.

    Args:
        row: in docs/faults.md.
        name: what is broken, in words.
        make: writes image and label.
        pair: whether it takes both to see it.
        harmless: whether a reader may take it without a wrong value; a warning is wanted at most.
    """

    row: int
    name: str
    make: Callable[[Path, Path], None]
    pair: bool = False
    harmless: bool = False


def chest() -> np.ndarray:
    """int16 HU [x, y, z]: air, body, lungs and a tumour."""
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij")
    body, lungs = x**2 + y**2 < 0.85, ((np.abs(x) - 0.4) / 0.3) ** 2 + (y / 0.6) ** 2 < 1
    volume = np.where(body, np.where(lungs, -850, 40), -1000) + 40.0 * (tumour() > 0)
    return (volume + np.random.default_rng(0).normal(0, 15, SHAPE)).astype(np.int16)


def tumour() -> np.ndarray:
    """uint8 [x, y, z]: a block of 1 in one lung."""
    label = np.zeros(SHAPE, np.uint8)
    label[38:55, 62:82, 24:35] = 1
    return label


def plain(array: np.ndarray, affine: np.ndarray = AFFINE) -> bytearray:
    """The bytes of a NIfTI-1 file."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    return bytearray(image.to_bytes())


def packed(data: bytes) -> bytes:
    return gzip.compress(bytes(data), 6, mtime=0)


def _image(change: Callable[[bytearray], bytes]) -> Callable[[Path, Path], None]:
    """A case whose image's bytes are changed before they are packed."""

    def make(image: Path, label: Path) -> None:
        image.write_bytes(packed(change(plain(chest()))))
        label.write_bytes(packed(plain(tumour())))

    return make


def _after_packing(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def make(image: Path, label: Path) -> None:
        image.write_bytes(change(packed(plain(chest()))))
        label.write_bytes(packed(plain(tumour())))

    return make


def _arrays(
    image_array: np.ndarray | None = None,
    label_array: np.ndarray | None = None,
    image_affine: np.ndarray = AFFINE,
    label_affine: np.ndarray = AFFINE,
) -> Callable[[Path, Path], None]:
    def make(image: Path, label: Path) -> None:
        image.write_bytes(packed(plain(chest() if image_array is None else image_array, image_affine)))
        label.write_bytes(packed(plain(tumour() if label_array is None else label_array, label_affine)))

    return make


def _field(at: int, form: str, *values: float) -> Callable[[Path, Path], None]:
    def change(data: bytearray) -> bytes:
        struct.pack_into(f"<{form}", data, at, *values)
        return data

    return _image(change)


def _flipped_bit(data: bytes) -> bytes:
    """One bit of the deflated data, such that the stream still inflates to its length: only the CRC can tell."""
    whole = zlib.decompress(data, wbits=31)
    for at in range(len(data) // 2, len(data) - 8):
        broken = bytearray(data)
        broken[at] ^= 16
        inflater = zlib.decompressobj(wbits=-15)
        try:
            found = inflater.decompress(bytes(broken[10:]))
        except zlib.error:
            continue
        if inflater.eof and len(found) == len(whole) and found != whole:
            return bytes(broken)
    raise SystemExit("no bit can be flipped so that the stream still inflates")


def _bomb(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(plain(chest()))
    return start + b"".join(packer.compress(bytes(1 << 20)) for _ in range(2000)) + packer.flush()


def _extension(data: bytearray) -> bytes:
    """An extension that says it is 1 MB, and a header whose voxels begin after 32 bytes of it."""
    struct.pack_into("<f", data, OFFSET, 352 + 32)
    data[348] = 1
    return data[:352] + struct.pack("<2i", 1 << 20, 6) + b"x" * 24 + data[352:]


def _typed(array: np.ndarray) -> Callable[[Path, Path], None]:
    return _arrays(image_array=array)


def _nan() -> np.ndarray:
    array = chest().astype(np.float32)
    array[50, 50, 25] = np.nan
    return array


def _shifted() -> np.ndarray:
    moved = AFFINE.copy()
    moved[:3, 3] += (5.0, 0.0, 0.0)
    return moved


def _label(value: float) -> np.ndarray:
    label = tumour().astype(np.float32)
    label[40, 65, 26] = value
    return label


def _forms_differ(image: Path, label: Path) -> None:
    for path, array in ((image, chest()), (label, tumour())):
        data = plain(array)
        struct.pack_into("<f", data, SROW + 12, 55.0)  # the sform 30 mm away from the qform
        path.write_bytes(packed(data))


def _macos(image: Path, label: Path) -> None:
    _arrays()(image, label)
    (image.parent / f"._{image.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")


def _no_label(image: Path, label: Path) -> None:
    image.write_bytes(packed(plain(chest())))


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
TURNED = AFFINE @ np.diag([-1.0, 1, 1, 1])
FAULTS = [
    Fault(10, "`._` companion of macOS", _macos, pair=True, harmless=True),
    Fault(11, "gzip cut in half", _after_packing(lambda data: data[: len(data) // 2])),
    Fault(12, "one bit flipped", _after_packing(_flipped_bit)),
    Fault(12, "wrong CRC", _after_packing(lambda data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:])),
    Fault(13, "bytes after the data", _image(lambda data: data + b"junk")),
    Fault(14, "dims 32767^3", _field(DIM, "4h", 3, 32767, 32767, 32767)),
    Fault(14, "gzip bomb of 2 GB", _after_packing(_bomb)),
    Fault(15, "dims smaller than the data", _field(DIM, "4h", 3, 160, 150, 59)),
    Fault(15, "dims larger than the data", _field(DIM, "4h", 3, 160, 150, 61)),
    Fault(16, "a dim of 0", _field(DIM, "4h", 3, 160, 150, 0)),
    Fault(16, "nine dims", _field(DIM, "h", 9)),
    Fault(17, "vox_offset 1e30", _field(OFFSET, "f", 1e30)),
    Fault(17, "vox_offset NaN", _field(OFFSET, "f", float("nan"))),
    Fault(17, "vox_offset negative", _field(OFFSET, "f", -352.0)),
    Fault(18, "extension size lies", _image(_extension)),
    Fault(19, "scl_slope 1e38", _field(SLOPE, "f", 1e38)),
    Fault(19, "scl_slope infinite", _field(SLOPE, "f", float("inf"))),
    Fault(20, "NaN voxel", _typed(_nan())),
    Fault(21, "two-dimensional", _typed(chest()[:, :, 0])),
    Fault(21, "four-dimensional", _typed(np.stack([chest()] * 2, axis=3))),
    Fault(21, "RGB", _typed(np.zeros(SHAPE, RGB))),
    Fault(21, "complex", _typed(chest().astype(np.complex64) + 1j)),
    Fault(22, "affine of zeros", _field(SROW, "12f", *[0.0] * 12)),
    Fault(22, "affine with NaN", _field(SROW, "f", float("nan"))),
    Fault(22, "qform and sform differ", _forms_differ, harmless=True),
    Fault(23, "label 5 mm away", _arrays(label_affine=_shifted()), pair=True),
    Fault(23, "label turned round", _arrays(label_affine=TURNED), pair=True),
    Fault(23, "label of other spacing", _arrays(label_affine=AFFINE @ np.diag([1, 1, 2.0, 1])), pair=True),
    Fault(23, "label of other shape", _arrays(label_array=tumour()[:, :, 1:]), pair=True),
    Fault(24, "label value 0.5", _arrays(label_array=_label(0.5)), pair=True),
    Fault(24, "label value 3", _arrays(label_array=_label(3)), pair=True),
    Fault(25, "label without tumour", _arrays(label_array=np.zeros(SHAPE, np.uint8)), pair=True, harmless=True),
    Fault(26, "label missing", _no_label, pair=True),
    Fault(27, "values 0 to 255", _typed(((chest() + 1000) / 8).clip(0, 255).astype(np.int16)), harmless=True),
]


def write_case(fault: Fault | None, folder: Path) -> tuple[Path, Path]:
    """A case in the layout of nnU-Net, and as Task06_Lung in the folder ``tree`` beside it; None is a sound one."""
    image, label = folder / "imagesTr" / "lung_001_0000.nii.gz", folder / "labelsTr" / "lung_001.nii.gz"
    for path in (image, label):
        path.parent.mkdir(parents=True)
    (_arrays() if fault is None else fault.make)(image, label)
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "tumour": 1}, "numTraining": 1}
    (folder / "dataset.json").write_text(json.dumps({**description, "file_ending": ".nii.gz"}))
    tree = folder / "tree"
    for path, target in ((image.parent, "imagesTr"), (label.parent, "labelsTr")):
        (tree / target).mkdir(parents=True)
        for file in path.iterdir():
            (tree / target / file.name.replace("_0000", "")).write_bytes(file.read_bytes())
    return image, label

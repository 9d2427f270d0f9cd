"""Row 46: no output of any command holds what a header says of a patient, or where on the machine the files were."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lungseg.cli import main
from lungseg.config import RECIPES

from .training import TINY
from .volumes import affine_of, chest_like

NAME = "DOE^JANE"
SHAPE = (24, 20, 10)


def write_named(path: Path, array: np.ndarray) -> None:
    """A scan with the patient's name in every place of a NIfTI-1 header that can hold one, and in an extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine_of("LAS"))
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = NAME.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"PatientName {NAME}".encode()))
    nib.save(image, path)
    assert NAME.encode() in gzip.decompress(path.read_bytes())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all commands write, of scans that lie in a folder with a patient's name."""
    folder = tmp_path_factory.mktemp("privacy")
    root, out = folder / f"{NAME} 1970-01-01" / "scans", folder / "out"
    for number in range(1, 5):
        label = np.zeros(SHAPE, np.uint8)
        label[6 + number : 9 + number, 6:10, 4:7] = 1
        write_named(root / "imagesTr" / f"lung_00{number}.nii.gz", chest_like(SHAPE, number))
        write_named(root / "labelsTr" / f"lung_00{number}.nii.gz", label)
    (root / "labelsTr" / "lung_004.nii.gz").write_bytes(b"\x1f\x8bnothing")  # so that messages are written down too
    scan, label = root / "imagesTr" / "lung_001.nii.gz", root / "labelsTr" / "lung_001.nii.gz"
    cpu = ("--device", "cpu")
    commands = [
        (3, "verify", root, "--json", out / "verify.json", "--workers", 1),
        (3, "preprocess", root, out / "slices", "--size", 32, "--skip-slices", 0, "--workers", 1),
        (0, "train", out / "slices", out / "run", "--recipe", "demo", "--n-folds", 3, *cpu),
        (0, "evaluate", out / "run", "--scans", root, *cpu),
        (0, "predict", out / "run", scan, out / "mask.nii.gz", *cpu),
        (0, "predict", out / "run", root / "imagesTr", out / "masks", *cpu),
        (0, "score", label, label, "--json", out / "score.json", "--csv", out / "score.csv"),
        (0, "export", out / "run", out / "weights.safetensors"),
        (0, "animate", scan, out / "scan.gif", "--truth", label),
        (0, "animate", scan, out / "scan.webp", "--mask", label),
    ]
    small = ("--recipe", "demo", "--size", 32, "--skip-slices", 0, "--workers", 1, *cpu)
    commands.append((3, "reproduce", out / "reproduced", "--source", root, *small))
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "demo", TINY.but(epochs=1))
        for code, *words in commands:
            assert main([str(word) for word in words]) == code, words
    return folder


def contents(path: Path) -> bytes:
    """The bytes of a file, and what is packed in it."""
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data += gzip.decompress(data)
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data += b"".join(archive.read(name) for name in archive.namelist())
    return data


def test_row_46_no_output_of_any_command_holds_a_name_or_a_path(outputs: Path) -> None:
    files = [path for path in (outputs / "out").rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert kinds >= {".json", ".npy", ".ckpt", ".csv", ".gz", ".gif", ".webp", ".png", ".safetensors", ".sha256"}
    secrets = {NAME, "PatientName", str(outputs), f"{Path.home()}/", os.uname().nodename}
    for path in files:
        data = contents(path)
        for secret in (secret for secret in secrets if len(secret) > 4):  # shorter ones are found by chance
            assert secret.encode() not in data, f"{path.name} holds {secret}"

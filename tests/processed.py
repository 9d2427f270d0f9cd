"""Tiny preprocessed folders for tests, written through the manifest's own types."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from lungseg.case_record import CaseRecord, image_name, mask_name
from lungseg.config import AIR, PreprocessConfig
from lungseg.digests import digest
from lungseg.manifest import Manifest


def write_processed(
    root: Path, cases: dict[str, list[int]], *, size: int = 32, unlabelled: tuple[str, ...] = ()
) -> Manifest:
    """Write a preprocessed folder and its manifest.

    Args:
        root: the folder; made.
        cases: tumour pixels of each slice by case.  Tumour fills the slice row by row from the top, in the image as 0.5
            on air; the last pixel holds the slice's number among all slices / 1024, so that slices can be told apart.
        size: rows and columns.
        unlabelled: cases that get no masks.
    """
    records = {}
    number = 0
    for case, counts in sorted(cases.items()):
        hashes = {}
        for z, count in enumerate(counts):
            mask = np.zeros(size * size, np.uint8)
            mask[:count] = 1
            image = np.where(mask > 0, 0.5, AIR).astype(np.float16)
            image[-1] = number / 1024
            number += 1
            hashes[image_name(z)] = _save(root / case / image_name(z), image.reshape(size, size))
            if case not in unlabelled:
                hashes[mask_name(z)] = _save(root / case / mask_name(z), mask.reshape(size, size))
        labelled = case not in unlabelled
        shape = (size, size, len(counts))
        records[case] = CaseRecord(
            labelled=labelled,
            shape=shape,
            affine=tuple(tuple(float(i == j) for j in range(4)) for i in range(4)),
            orientation="RAS",
            spacing_mm=(1.0, 1.0, 1.0),
            las_shape=shape,
            las_spacing_mm=(1.0, 1.0, 1.0),
            pad=((0, 0), (0, 0)),
            skipped=0,
            slices=tuple(range(len(counts))),
            tumour_pixels=tuple(counts) if labelled else (),
            hashes=hashes,
        )
    manifest = Manifest(root, PreprocessConfig(size=size), records)
    manifest.write()
    return Manifest.read(root)


def _save(path: Path, array: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getvalue())
    return digest(buffer.getvalue())

"""How much there is to do, from headers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lungseg.errors import UsageError
from lungseg.tree import read_tree
from lungseg.workload import Amount, published_workload, workload_of

from .volumes import affine_of, chest_like, write_tree, write_volume


def test_a_tree_is_counted_by_kind_with_skipped_slices_taken_off(tmp_path: Path) -> None:
    tree = read_tree(write_tree(tmp_path / "tree", cases=3, test_cases=1, shape=(24, 20, 10)))
    work = workload_of(tree, "4")
    assert work.labelled == Amount(3, 18, 3 * 4800, 4800) and work.test == Amount(1, 6, 4800, 4800)
    assert work.archive_bytes == 0 and work.assumed == ""
    assert workload_of(tree, "auto").labelled.slices == 30 and workload_of(tree, "auto").assumed
    assert workload_of(tree, "5mm").labelled.slices == 3 * 8  # slices of 2.5 mm


def test_slices_run_along_the_patient_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    volume = chest_like((24, 20, 10)).transpose(2, 0, 1)
    write_volume(tmp_path / "tree" / "a.nii.gz", volume, affine_of("SLA", (3.0, 0.7, 0.8)))
    assert workload_of(read_tree(tmp_path / "tree"), "6mm").test == Amount(1, 8, 4800, 4800)


def test_what_can_not_be_read_is_passed_over(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", cases=3)
    (root / "imagesTr" / "lung_001.nii.gz").write_bytes(b"\x1f\x8bnothing")
    (root / "imagesTr" / "lung_002.nii.gz").write_bytes(b"")
    assert workload_of(read_tree(root), "0").labelled.scans == 1


def test_the_published_set_has_the_slices_that_are_documented() -> None:
    work = published_workload("30")
    assert (work.labelled.scans, work.test.scans) == (63, 32)
    assert work.labelled.slices == 15_767 and work.archive_bytes == 9_163_696_640 and "600" in work.assumed
    assert published_workload("0").labelled.slices == 17_657
    assert np.isclose(work.labelled.voxels / 17_657, 512 * 512)


def test_slices_to_skip_that_can_not_be_read_are_refused() -> None:
    with pytest.raises(UsageError, match="skip"):
        published_workload("some")

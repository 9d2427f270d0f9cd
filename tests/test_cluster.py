"""Per-scan stages on a real cluster write what one machine writes, byte for byte, with a bad scan among the good."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lungseg.cli import main
from lungseg.preprocess import preprocess
from lungseg.score import score
from lungseg.verify import verify

from .dask_processes import DaskProcesses
from .volumes import tree_bytes, write_tree


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with DaskProcesses(tmp_path_factory.mktemp("dask"), nanny=False) as processes:
        yield processes.address


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six labelled scans and a test scan, one of them cut off."""
    root = write_tree(tmp_path_factory.mktemp("scans") / "root", cases=6)
    bad = root / "imagesTr/lung_003.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-100])
    return root


def test_preprocess_writes_the_same_bytes_and_a_rerun_only_what_is_missing(
    cluster: str, root: Path, tmp_path: Path
) -> None:
    one = preprocess(root, tmp_path / "one", size=16, skip_slices=2, workers=1)
    many = preprocess(root, tmp_path / "many", size=16, skip_slices=2, cluster=cluster)
    assert many.problems == one.problems and many.exit_code == one.exit_code == 3
    assert "lung_003" in many.manifest.failed and len(many.manifest.cases) == 6
    wanted = tree_bytes(tmp_path / "one")
    assert tree_bytes(tmp_path / "many") == wanted

    (tmp_path / "many/lung_002/images/004.npy").unlink()
    (tmp_path / "many/lung_004/case.json").unlink()
    (tmp_path / "many/lung_005/masks/005.npy").write_bytes(b"damaged")
    again = preprocess(root, tmp_path / "many", size=16, skip_slices=2, cluster=cluster)
    assert set(again.manifest.cases) - set(again.reused) == {"lung_002", "lung_004", "lung_005"}
    assert tree_bytes(tmp_path / "many") == wanted


def test_verify_and_score_say_the_same(cluster: str, root: Path) -> None:
    assert verify(root, cluster=cluster) == verify(root, workers=1)
    labels = root / "labelsTr"
    assert score(labels, labels, cluster=cluster) == score(labels, labels, workers=1)


def test_the_command_line_takes_the_address(
    cluster: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(root), "--json", str(tmp_path / "found.json"), "--cluster", cluster]) == 3
    assert "lung_003" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["errors"] == 1


def test_without_dask_the_extra_is_named(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["verify", str(root), "--cluster", "tcp://127.0.0.1:1"]) == 2
    assert "pip install lungseg[cluster]" in capsys.readouterr().err

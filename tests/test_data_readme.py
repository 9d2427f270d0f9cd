"""data/README.md says what the code knows: the published facts, and the layouts that are understood."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from lungseg.download import TASK06
from lungseg.errors import NOTICE
from lungseg.tree import read_tree

DATA = Path(__file__).parents[1] / "data"
TEXT = (DATA / "README.md").read_text(encoding="utf-8")


def cell(name: str) -> str:
    """What stands beside ``name`` in the table of facts."""
    (value,) = re.findall(rf"^\| {name} \| (.*) \|$", TEXT, re.MULTILINE)
    return value


def drawings() -> list[list[PurePosixPath]]:
    """The files of each tree that is drawn, below its ROOT/."""
    trees = []
    for block in re.findall(r"^```\nROOT/\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        files, parents = [], [PurePosixPath()]
        for line in block.splitlines():
            indent, name = re.fullmatch(r"([ │├└─]*)(\S+)", line).groups()  # type: ignore[union-attr]
            depth = len(indent) // 4
            path = parents[depth - 1] / name
            parents[depth:] = [path]
            if not name.endswith("/"):
                files.append(path)
        trees.append(files)
    return trees


def test_the_facts_are_those_that_the_download_is_checked_against() -> None:
    assert re.match(r"[0-9,]+ bytes", cell("size"))[0] == f"{TASK06.bytes:,} bytes"  # type: ignore[index]
    assert re.findall("`([0-9a-f]+)`", cell("md5")) == [TASK06.md5]
    assert re.findall("`([0-9a-f]+)`", cell("sha256")) == [TASK06.sha256]
    assert cell("file") == f"`{TASK06.name}`"
    assert cell("address") == f"`{TASK06.url}`"
    assert f"[{TASK06.licence}]" in cell("licence")
    assert TASK06.citation in cell("cite")


def test_the_room_that_is_asked_for_is_enough_for_the_download() -> None:
    (gigabytes,) = re.findall(r"need ([0-9.]+) GB of free disk space", TEXT)
    assert 2 * TASK06.bytes <= float(gigabytes) * 1e9 < 2.1 * TASK06.bytes  # type: ignore[operator]


def test_the_notice_is_there() -> None:
    assert NOTICE in TEXT


def test_each_layout_that_is_drawn_is_understood(tmp_path: Path) -> None:
    expected = [
        {"lung_001": True, "lung_002": False, "lung_003": True},
        {"anna": True, "ben": False},
        {"anna": True, "ben": False},
    ]
    assert len(drawings()) == len(expected)
    for number, (files, cases) in enumerate(zip(drawings(), expected, strict=True)):
        root = tmp_path / str(number)
        for path in files:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(b"")
        if (root / "dataset.json").exists():
            training = [
                {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in cases if cases[n]
            ]
            content = {"training": training, "test": ["./imagesTs/lung_002.nii.gz"]}
            (root / "dataset.json").write_text(json.dumps(content))
        tree = read_tree(root)
        assert tree.problems == ()
        assert {case.name: case.label is not None for case in tree.cases} == cases


def test_git_takes_nothing_from_the_folder_but_its_readme(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    data = tmp_path / "data"
    shutil.copytree(DATA, data, ignore=lambda _, names: set(names) - {".gitignore", "README.md"})
    for name in ("Task06_Lung.tar.part", "Task06_Lung/imagesTr/lung_001.nii.gz", ".lungseg.lock", "a/README.md"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"x")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    listed = ["git", "-C", tmp_path, "ls-files", "--others", "--exclude-standard"]
    found = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    assert found == ["data/.gitignore", "data/README.md"]

"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lungseg.preprocess import preprocess

from .offline import sitecustomize  # noqa: F401 - from here on, no address but this machine's is open
from .volumes import write_tree

# And to no process that is started from here, notebook kernels and workers among them.
_OFFLINE = str(Path(__file__).parent / "offline")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_OFFLINE, os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """A network this small gains nothing from a second thread, and waits for it on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Task06 tree of three labelled cases and a test case, and its slices; tests must not change them."""
    folder = tmp_path_factory.mktemp("made")
    done = preprocess(write_tree(folder / "root"), folder / "out", size=16, skip_slices=2, workers=1)
    assert done.problems == () and done.exit_code == 0
    return folder / "root", folder / "out"

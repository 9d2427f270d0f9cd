"""One writer a folder, whatever becomes of it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from lungseg.errors import MachineError
from lungseg.files import TEMPORARY_PREFIX
from lungseg.folder_lock import folder_lock


def _hold(folder: str, held: multiprocessing.Event, go: multiprocessing.Event) -> None:
    with folder_lock(folder, stage="test"):
        held.set()
        go.wait(20)


def test_row_32_a_second_writer_is_told_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, go = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), held, go))
    holder.start()
    assert held.wait(20)
    with pytest.raises(MachineError) as caught, folder_lock(tmp_path, stage="preprocess"):
        pass
    assert caught.value.problem.code == "locked" and "preprocess" in str(caught.value)
    holder.kill()
    holder.join()
    (tmp_path / f"{TEMPORARY_PREFIX}dead.npy").write_bytes(b"half")
    with folder_lock(tmp_path, stage="preprocess"):
        assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))

"""How much memory is free, and what is said where it is not enough."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from lungseg import memory
from lungseg.errors import MachineError
from lungseg.memory import Room, available_memory, require_memory


def test_available_memory_is_that_of_a_machine() -> None:
    assert 1 << 20 < available_memory() < 1 << 50


def test_available_memory_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert 1 << 20 < available_memory() < 1 << 50


def test_row_14_too_little_memory_is_said_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 3_000_000_000)
    require_memory(3_000_000_000)
    with pytest.raises(MachineError) as caught:
        require_memory(3_000_000_001)
    assert caught.value.exit_code == 5
    assert (caught.value.problem.expected, caught.value.problem.found) == ("3.00 GB", "3.00 GB free")


def test_small_scans_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: pytest.fail("asked"))
    require_memory(1 << 27)


def test_a_room_is_taken_once_and_grows() -> None:
    room = Room()
    first = room.take(1000)
    first[:] = 7
    assert np.shares_memory(room.take(10), first) and room.take(10).tolist() == [7] * 10
    assert room.take(2000).size == 2000 and room.take(1000).size == 1000
    room.clear()
    assert not np.shares_memory(room.take(1000), first)


def test_a_bound_of_the_process_counts_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free", lambda: 10_000_000_000)
    monkeypatch.setattr(memory, "_held", lambda: 500_000_000)
    assert available_memory() == 10_000_000_000
    try:
        memory.bound_memory(2_000_000_000)
        assert available_memory() == 1_500_000_000
        require_memory(1_500_000_000)
        with pytest.raises(MachineError, match=r"2\.00 GB.*1\.50 GB"):
            require_memory(2_000_000_000)
        memory.bound_memory(400_000_000)
        assert available_memory() == 0
    finally:
        memory.bound_memory(None)
    assert available_memory() == 10_000_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is of Linux")
def test_what_the_process_holds_grows_with_it() -> None:
    before = memory._held()
    held = np.ones(64 << 20, np.uint8)
    assert memory._held() - before > 50 << 20 and held.size

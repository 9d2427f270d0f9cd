"""How much memory is free, and what is said where it is not enough."""

from __future__ import annotations

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

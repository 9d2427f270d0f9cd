"""Names of devices, and where bf16 is used."""

from __future__ import annotations

import pytest
import torch

import lungseg.device
from lungseg.device import PRECISIONS, autocast, fast_at_bf16, pick_device
from lungseg.errors import MachineError, UsageError
from lungseg.fitting import machine_facts, uses_bf16
from lungseg.placement import Place

CPU = torch.device("cpu")


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False, capability=(8, 0)) -> None:
    """Let torch report these devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda"), (1, True, "cuda")]
)
def test_auto_takes_the_quickest_there_is(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str) -> None:
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert pick_device().type == expected


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=2, mps=True)
    for name in ("cpu", "mps", "cuda", "cuda:0", "cuda:1"):
        assert str(pick_device(name)) == name


@pytest.mark.parametrize("name", ["tpu", "", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "mps:1", "CUDA", "auto:1"])
def test_no_such_name(name: str) -> None:
    with pytest.raises(UsageError, match="no such device"):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:2", "mps"])
def test_no_such_device_here(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch, cuda=2 if ":" in name else 0)
    with pytest.raises(MachineError, match=r"--device cpu") as caught:
        pick_device(name)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bf16_on_a_gpu_since_ampere(monkeypatch: pytest.MonkeyPatch, capability: tuple, fast: bool) -> None:
    machine(monkeypatch, cuda=1, capability=capability)
    target = torch.device("cuda")
    assert fast_at_bf16(target) == uses_bf16(target, "auto") == fast
    assert uses_bf16(target, "bf16") and not uses_bf16(target, "32")


@pytest.mark.parametrize(("flags", "fast"), [("fma avx2", False), ("avx2 avx512_bf16", True), ("amx_bf16", True)])
def test_bf16_on_a_cpu_that_has_instructions_for_it(monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool) -> None:
    monkeypatch.setattr(lungseg.device, "_cpu_flags", lambda: frozenset(flags.split()))
    assert fast_at_bf16(CPU) == uses_bf16(CPU, "auto") == fast
    assert uses_bf16(CPU, "bf16") and not uses_bf16(CPU, "32")
    for precision in PRECISIONS:
        with autocast(CPU, precision):
            kind = torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype
        assert kind == (torch.bfloat16 if uses_bf16(CPU, precision) else torch.float32)
    assert machine_facts(CPU, "auto", Place())["precision"] == ("bf16" if fast else "32")


def test_no_such_precision() -> None:
    with pytest.raises(UsageError, match="no such precision"):
        autocast(CPU, "16")


def test_facts_of_the_machine_are_plain_values() -> None:
    facts = machine_facts(CPU, "32", Place())
    assert facts["device"] == "cpu" and facts["precision"] == "32" and facts["threads"] == torch.get_num_threads()
    assert all(isinstance(value, (str, int)) for value in facts.values())

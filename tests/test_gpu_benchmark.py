"""The GPU benchmark where there is no GPU: a part that fails costs no other, and tables show only what was measured."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lungseg.dataset import LungDataset
from lungseg.manifest import Manifest
from lungseg.upsampling import twice_as_large

from .processed import write_processed

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def found(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield found
    for name in [name for name, loaded in sys.modules.items() if _is_benchmark(loaded)]:
        del sys.modules[name]


def _is_benchmark(loaded: Any) -> bool:
    return str(getattr(loaded, "__file__", None) or "").startswith(str(BENCHMARKS))


def test_a_part_that_fails_costs_no_other(module: Any, tmp_path: Path) -> None:
    gpu = module("gpu")
    bench = SimpleNamespace(found={}, device=torch.device("cpu"), left_s=1.0, seconds=9.0)
    bench.count, bench.train = lambda: {"tflop": 2.0}, lambda: {"slices_s": 1000.0, "between_epochs_s": 1.0}
    bench.ours = lambda: {"constant_slices_s": 1250.0}

    def broken() -> Any:
        file = "/".join(["", "opt", "torch", "lib", "kernels.py"])
        raise ValueError(f'in "{file}", line 3: no such kernel, 2 / 3')

    bench.ceilings = broken
    gpu.run(bench, ["count", "ceilings", "ours", "train"], tmp_path / "gpu.json", small=True)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["ceilings"] == {"failed": 'ValueError: in "kernels.py", line 3: no such kernel, 2 / 3'}
    assert found["goals"]["share_of_constant"] == pytest.approx(0.8) and "share_of_roofline" not in found["goals"]
    assert found["goals"]["budget_minutes"] == pytest.approx(434.1 / 60)
    assert found["goals"]["budget_minutes_with_checkpoints"] == pytest.approx(464.1 / 60)


def test_a_part_without_time_is_left_out_and_says_so(module: Any) -> None:
    bench = SimpleNamespace(found={}, device=torch.device("cpu"), left_s=1.0, seconds=9.0)
    module("gpu").run(bench, ["train"], None, small=False)
    assert bench.found["train"] == {"left_out": "1 s were left of 9"}


def test_the_table_shows_what_was_measured_and_no_more(module: Any) -> None:
    tables = module("speed_tables")
    results = {
        "kind": "gpu", "device": "a GPU", "torch": "2", "date": "2026-01-01", "predict": {"failed": "ValueError"},
        "train": {"slices_s": 1234.4, "seconds": 61.0}, "goals": {"times_recipe": 7.25},
    }  # fmt: skip
    table = tables.gpu_table(results)
    assert "| 1234 slices/s |" in table and "| at least 5 times | 7.2 times |" in table
    assert "| under 1.5 s | not measured yet |" in table and "on a GPU, torch 2" in table
    unmeasured = tables.gpu_table({**results, "kind": "cpu"})  # of `--small`
    assert "1234" not in unmeasured and unmeasured.count("not measured yet") == table.count("not measured yet") + 3


def test_nnunets_rate_is_that_of_its_later_epochs(module: Any) -> None:
    rate = module("speed_tables").nnunet_rate
    fold = {"settings": {"epoch_s": [60.0, 25.0, 20.0], "batch": 12}, "cases": [{"tp": 1}]}
    assert rate({"folds": [fold, {"settings": {"epoch_s": [50.0], "batch": 12}}]}) == pytest.approx(250 * 12 / 25)
    assert rate({}) is None and rate(None) is None


def test_the_thin_first_layer_is_the_same_convolution(module: Any) -> None:
    torch.manual_seed(0)
    convolution, image = nn.Conv2d(1, 5, 3, padding=1).double(), torch.randn(2, 1, 7, 9).double()
    thin = module("gpu_step").ThinFirst(convolution)(image)
    assert thin.shape == (2, 5, 7, 9) and thin.std() > 0.1
    torch.testing.assert_close(thin, convolution(image))


def test_copies_are_the_same_slices_under_other_names(module: Any, tmp_path: Path) -> None:
    manifest = write_processed(tmp_path / "slices", {"lung_001": [0, 5], "lung_002": [7]})
    assert module("gpu_data").copies(manifest, tmp_path / "many", 2) == 6
    many = Manifest.read(tmp_path / "many")
    assert many.labelled == ["lung_001_00", "lung_001_01", "lung_002_00", "lung_002_01"]
    one, two = (LungDataset(many, [f"lung_001_0{number}"])[1] for number in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1]) and one[1].sum() == 5


def test_upsampling_by_neighbours_is_the_same_function(module: Any) -> None:
    image = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(module("gpu_step").sum_of_neighbours(image), twice_as_large(image))

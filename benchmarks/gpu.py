"""Training and prediction on a GPU, measured against the ceilings of the very machine, in about 200 seconds.

    python benchmarks/gpu.py [--baseline FOLDER] [--json FILE] [--parts NAME ...] [--seconds 240] [--small]

count     operations and bytes of one step of `classic` (gpu_count.py)
warm      the step and the augmentation are compiled, while phantoms are made and the tests of the GPU run beside
tests     what these tests said; among them that a stopped run ends in the same bytes
ceilings  a bf16 matrix product and a copy
ours      the bare step with real batches and with one that never changes, in turns
profile   the dearest kernels of that step
train     `lungseg.train --compile`, a minute of real batches, from its own record: the rate that counts
recipe    the published recipe's loop with data for free, and its own train.py with 8 workers (`--baseline`)
predict   a phantom of 512 x 512 x 304, file to file, and where the time goes
monai     MONAI's U-Nets with the settings that its guides call fast
variants  other ways to run the step, a few seconds each, as far as the time reaches

What fails is written down and the rest goes on; the JSON is written after every part.  A part whose share no longer
fits into ``--seconds`` is left out and says so.  `--small` proves all parts on a CPU and writes nothing to results/.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_count as count
import torch
from gpu_data import without_folders
from gpu_monai import monai_rates
from gpu_predict import prediction
from gpu_step import VARIANTS, Step, constant, endless, profile, random_batch, rate
from gpu_train import recipe, start_tests, tests, training

from lungseg.records import write_json
from lungseg.unet import UNet

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "gpu.json"
BUDGET, EPOCHS = 30 * 14_470, 30  # slices and epochs of the recipe's whole training on Task06_Lung
MAIN = "compiled"  # the variant that `lungseg train --compile` runs
# Seconds that each part is expected to take on an H100; those that can wait come last.
SHARES = {"count": 3, "warm": 40, "tests": 10, "ceilings": 3, "ours": 14, "profile": 4, "train": 85, "recipe": 30,
          "predict": 12, "monai": 15, "variants": 12}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Sizes of everything.

    Args:
        cases: phantoms to train on.
        copies: of each, for an epoch of a real data set's length.
        shape: of each.
        side: pixels of a slice.
        try_s: seconds of each short measurement.
        train_s: of ``lungseg.train``, its first epoch included.
        scan: shape of the phantom to predict.
        matrix: side of the product that shows the ceiling.
        copied: bytes of the copy that shows the other.
        batch: slices a step.
        chunk: steps between two looks at the clock.
    """

    cases: int = 12
    copies: int = 8
    shape: tuple[int, int, int] = (256, 256, 128)
    side: int = 256
    try_s: float = 2.5
    train_s: float = 72.0
    scan: tuple[int, int, int] = (512, 512, 304)
    matrix: int = 8192
    copied: int = 4 << 30
    batch: int = 8
    chunk: int = 10


SMALL = Plan(4, 1, (64, 64, 72), 32, 0.1, 5.0, (64, 64, 40), 256, 1 << 22, 8, 1)


class Bench:
    """The parts, one method each, in the order of :data:`SHARES`; a part may use what the ones before found."""

    def __init__(self, device: torch.device, plan: Plan, work: Path, baseline: Path | None, seconds: float) -> None:
        self.device, self.plan, self.work, self.baseline = device, plan, work, baseline
        self.started, self.seconds = time.perf_counter(), seconds
        self.found: dict[str, Any] = {}
        words = [sys.executable, HERE / "gpu_data.py", work, json.dumps(dataclasses.asdict(plan))]
        words += [] if baseline is None else [baseline]
        self.maker = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.tester = start_tests(work / "tests.log") if device.type == "cuda" else None
        self.step: Step | None = None

    @property
    def left_s(self) -> float:
        return self.seconds - (time.perf_counter() - self.started)

    def count(self) -> dict[str, float]:
        net = UNet().to(self.device)
        layers = count.layers(net, self.plan.batch, self.plan.side)
        return {
            "tflop": sum(layer.operations for layer in layers) / 1e12,
            "tflop_by_torch": count.counted_by_torch(net, self.plan.batch, self.plan.side) / 1e12,
            "gbytes": (sum(layer.bytes for layer in layers) + count.optimizer_bytes(net)) / 1e9,
            "batch": self.plan.batch,
        }

    def warm(self) -> dict[str, Any]:
        started = time.perf_counter()
        step = self._step()
        batch = random_batch(self.device, self.plan.batch, self.plan.side)
        for _ in range(3):
            step(*batch)
        torch.zeros(1, device=self.device).item()
        compiled_s = time.perf_counter() - started
        _, said = self.maker.communicate(timeout=max(self.left_s, 1.0))
        if self.maker.returncode:
            raise RuntimeError(said.decode(errors="replace")[-1500:])
        return {"compile_s": compiled_s, "data": json.loads((self.work / "made.json").read_text())}

    def tests(self) -> dict[str, Any]:
        if self.tester is None:
            return {"left_out": "there is no GPU"}
        return tests(self.tester, self.work / "tests.log", min(60.0, self.left_s))

    def ceilings(self) -> dict[str, float]:
        operations = count.matrix_rate(self.device, self.plan.matrix)
        moved = count.copy_rate(self.device, self.plan.copied)
        net = UNet().to(self.device)
        layers = count.layers(net, self.plan.batch, self.plan.side)
        least_s = count.roofline_s(layers, count.optimizer_bytes(net), operations, moved)
        return {"bf16_tflops": operations / 1e12, "copy_tbs": moved / 1e12, "slices_s": self.plan.batch / least_s}

    def ours(self) -> dict[str, Any]:
        step, found = self._step(), {}
        for name, compiled, turns in (("compiled", True, 2), ("eager", False, 1)):
            try:
                found[f"{name}_augmentation"] = self._turns(step, compiled=compiled, turns=turns)
            except Exception as error:  # the other way may still work
                found[f"{name}_augmentation"] = {"failed": f"{type(error).__name__}: {error}"[:800]}
        best = max((value for value in found.values() if "slices_s" in value), key=lambda value: value["slices_s"])
        return {"variant": MAIN if self.device.type == "cuda" else "eager", **best, **found}

    def _turns(self, step: Step, *, compiled: bool, turns: int) -> dict[str, float]:
        plan, device = self.plan, self.device
        batches = endless(device, self.work / "slices", plan.batch, compiled=compiled)
        batch = next(batches)
        for _ in range(plan.chunk):
            step(*next(batches))
        real, same = [], []
        for _ in range(turns):
            real.append(rate(step, batches, plan.try_s, device, plan.chunk))
            same.append(rate(step, constant(batch), plan.try_s * 0.6, device, plan.chunk))
        shares = [one / other for one, other in zip(real, same, strict=True)]
        means = (sum(values) / turns for values in (real, same, shares))
        return dict(zip(("slices_s", "constant_slices_s", "share_of_constant"), means, strict=True))

    def profile(self) -> dict[str, Any]:
        if self.device.type != "cuda":
            return {"left_out": "there is no GPU"}
        batches = endless(self.device, self.work / "slices", self.plan.batch, compiled=True)
        step = self._step()
        for _ in range(self.plan.chunk):
            step(*next(batches))
        return profile(step, batches, 10)

    def train(self) -> dict[str, Any]:
        return training(self.device, self.work, self.plan.batch, self.plan.train_s)

    def recipe(self) -> dict[str, Any]:
        return recipe(self.device, self.work, self.plan.side, self.plan.try_s, self.baseline)

    def predict(self) -> dict[str, Any]:
        run = self.work / self.found.get("train", {}).get("run", "run")
        return prediction(self.device, self.work / "scan", run, self.work)

    def monai(self) -> dict[str, Any]:
        return monai_rates(self.device, self.plan.batch, self.plan.side, self.plan.try_s * 0.6)

    def variants(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, variant in VARIANTS.items():
            if self.device.type == "cpu" and (variant.compiled or variant.batch):
                continue
            if self.left_s < 10:
                found[name] = "left out: no time"
                continue
            try:
                size = variant.batch or self.plan.batch
                if name != MAIN:
                    torch.compiler.reset()  # it gives up compiling a function that it has compiled eight times
                step = self._step() if name == MAIN else Step(self.device, variant)
                batch = random_batch(self.device, size, self.plan.side)
                started = time.perf_counter()
                for _ in range(self.plan.chunk):
                    step(*batch)
                ready_s = time.perf_counter() - started
                speed = rate(step, constant(batch), self.plan.try_s * 0.6, self.device, self.plan.chunk)
                found[name] = {"batch": size, "slices_s": speed, "ready_s": ready_s}
            except Exception as error:  # a way that does not work on this machine is no way
                found[name] = f"{type(error).__name__}: {error}"[:800]
        return found

    def _step(self) -> Step:
        if self.step is None:
            self.step = Step(self.device, VARIANTS[MAIN if self.device.type == "cuda" else "eager"])
        return self.step

    def stop(self) -> None:
        for process in (self.maker, self.tester):
            if process is not None and process.poll() is None:
                process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="the folder with the recipe's scripts")
    parser.add_argument("--json", type=Path, help="where to write (benchmarks/results/gpu.json)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES), help="only these")
    parser.add_argument("--seconds", type=float, default=240.0, help="for everything")
    parser.add_argument("--small", action="store_true", help="prove the script at small size, on a CPU")
    args = parser.parse_args()
    device, plan = (torch.device("cpu"), SMALL) if args.small else (torch.device(args.device), Plan())
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --small proves the script on a CPU")
    baseline = args.baseline.resolve() if args.baseline and (args.baseline / "train.py").is_file() else None
    torch.backends.cudnn.benchmark = True
    out = args.json or (None if args.small else RESULTS)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(device, plan, Path(scratch), baseline, args.seconds)
        try:
            run(bench, [name for name in SHARES if name in args.parts], out, args.small)
        finally:
            bench.stop()
    print(json.dumps(bench.found.get("goals", {}), indent=1))


def run(bench: Bench, parts: list[str], out: Path | None, small: bool) -> None:
    """Every part in order, each caught where it fails; what was found is written after each."""
    found = bench.found
    found["kind"] = "gpu" if bench.device.type == "cuda" else "cpu"
    found["device"] = torch.cuda.get_device_name(bench.device) if found["kind"] == "gpu" else "CPU"
    found["torch"], found["date"] = torch.__version__, datetime.date.today().isoformat()
    found["seconds"] = {}
    for name in parts:
        started = time.perf_counter()
        if not small and bench.left_s < 0.7 * SHARES[name]:
            found[name] = {"left_out": f"{bench.left_s:.0f} s were left of {bench.seconds:.0f}"}
        else:
            part: Callable[[], Any] = getattr(bench, name)
            try:
                found[name] = part()
            except Exception as error:
                found[name] = {"failed": f"{type(error).__name__}: {error}"[:1500]}
                traceback.print_exc()
        found["seconds"][name] = round(time.perf_counter() - started, 1)
        found["goals"] = goals(found)
        print(f"{name} ({found['seconds'][name]} s): {json.dumps(found[name])[:1500]}", flush=True)
        if out is not None:
            write_json(out, without_folders(found))


def goals(found: dict[str, Any]) -> dict[str, float]:
    """The ratios that the goals speak of, of what was measured; training is that of ``lungseg.train``."""
    own = found.get("train", {}).get("slices_s")
    if own is None:
        return {}
    ratios: dict[str, float] = {"budget_minutes": BUDGET / own / 60}
    between = found["train"]["between_epochs_s"]
    ratios["budget_minutes_with_checkpoints"] = (BUDGET / own + EPOCHS * between) / 60
    for name, of in (
        ("share_of_roofline", found.get("ceilings", {}).get("slices_s")),
        ("share_of_constant", found.get("ours", {}).get("constant_slices_s")),
        ("times_recipe", found.get("recipe", {}).get("slices_s")),
        ("times_recipe_with_free_data", found.get("recipe", {}).get("data_for_free_slices_s")),
    ):
        if of:
            ratios[name] = own / of
    return ratios


if __name__ == "__main__":
    main()

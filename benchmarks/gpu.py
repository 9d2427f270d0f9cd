"""Training and prediction on a GPU, measured against the ceilings of the very machine; under 10 minutes.

    python benchmarks/gpu.py [--baseline FOLDER] [--json FILE] [--small] [--device cuda]

1. **Count**: operations and bytes of one step of `classic` (gpu_count.py), and the two ceilings measured here.
2. **Variants**: the bare step (resident slices gathered and augmented on the device, bf16, channels last, fused Adam)
   with one batch that never changes, uncompiled and compiled in torch's ways; a few seconds each.
3. **Ours**: the quickest of them with real batches and with the constant one, in turns; then `lungseg.train` itself.
4. **Recipe**: its loop (float32, batch 8, `float(loss)` each step) with data for free, which is more than it can reach;
   and where the baseline and imgaug are at hand, its own train.py with 8 workers.
5. **Prediction** of a phantom of 512 x 512 x 304, file to file, with a table of where the time goes.

`--small` proves all of it on a CPU in a minute; nothing is then written to results/.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_count as count
import torch
from gpu_predict import prediction

from lungseg.augment_torch import TorchAugment
from lungseg.config import Recipe, recipe_named
from lungseg.dataset import LungDataset, make_sampler
from lungseg.files import write_json
from lungseg.losses import bce
from lungseg.manifest import Manifest
from lungseg.preprocess import preprocess
from lungseg.randomness import SampleRandom
from lungseg.resident import ResidentBatches
from lungseg.sample import write_sample
from lungseg.unet import UNet

RESULTS = Path(__file__).resolve().parent / "results" / "gpu.json"
BUDGET = 30 * 14_470  # slices of the recipe's whole training on Task06_Lung
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Plan:
    """Sizes of everything.

    Args:
        cases: phantoms to train on.
        shape: of each.
        side: pixels of a slice.
        try_s: seconds for each variant.
        run_s: seconds of sustained training, each kind.
        train_minutes: of ``lungseg.train``.
        scan: shape of the phantom to predict.
        matrix: side of the product that shows the ceiling.
        copied: bytes of the copy that shows the other.
        batch: slices a step.
        chunk: steps between two looks at the clock.
    """

    cases: int = 12
    shape: tuple[int, int, int] = (256, 256, 128)
    side: int = 256
    try_s: float = 8.0
    run_s: float = 60.0
    train_minutes: float = 1.0
    scan: tuple[int, int, int] = (512, 512, 304)
    matrix: int = 8192
    copied: int = 4 << 30
    batch: int = 8
    chunk: int = 10


SMALL = Plan(4, (64, 64, 40), 32, 0.1, 0.4, 0.05, (64, 64, 40), 256, 1 << 22, 2, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="the folder with the recipe's scripts")
    parser.add_argument("--json", type=Path, help="where to write (benchmarks/results/gpu.json)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="prove the script at small size, on a CPU")
    args = parser.parse_args()
    device, plan = (torch.device("cpu"), SMALL) if args.small else (torch.device(args.device), Plan())
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --small proves the script on a CPU")
    found: dict[str, Any] = {"kind": "gpu" if device.type == "cuda" else "cpu", "torch": torch.__version__}
    found["date"] = datetime.date.today().isoformat()
    found["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    torch.backends.cudnn.benchmark = True
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for name, part in parts(device, plan, work, args.baseline, found):
            started = time.perf_counter()
            found[name] = part()
            print(f"{name} ({time.perf_counter() - started:.0f} s): {json.dumps(found[name])}", flush=True)
    conclude(found)
    out = args.json or (None if args.small else RESULTS)
    if out is not None:
        write_json(out, found)
        print(f"wrote {out.name}")
    print(json.dumps({key: found[key] for key in ("roofline", "ratio", "budget_minutes")}))


def parts(
    device: torch.device, plan: Plan, work: Path, baseline: Path | None, found: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is measured, in order; a part may use what the ones before found."""
    yield "count", lambda: counted(device, plan)
    yield "ceilings", lambda: ceilings(device, plan)
    yield "data", lambda: data(plan, work)
    yield "variants", lambda: variants(device, plan, work)
    yield "ours", lambda: ours(device, plan, work, max(found["variants"], key=found["variants"].get))
    yield "train", lambda: training(device, plan, work)
    yield "recipe", lambda: recipe(device, plan, work, baseline)
    yield "predict", lambda: prediction(device, plan.scan, work)


def counted(device: torch.device, plan: Plan) -> dict[str, float]:
    net = UNet().to(device)
    layers = count.layers(net, plan.batch, plan.side)
    return {
        "tflop": sum(layer.operations for layer in layers) / 1e12,
        "tflop_by_torch": count.counted_by_torch(net, plan.batch, plan.side) / 1e12,
        "gbytes": (sum(layer.bytes for layer in layers) + count.optimizer_bytes(net)) / 1e9,
        "batch": plan.batch,
    }


def ceilings(device: torch.device, plan: Plan) -> dict[str, float]:
    operations, moved = count.matrix_rate(device, plan.matrix), count.copy_rate(device, plan.copied)
    net = UNet().to(device)
    step_s = count.roofline_s(count.layers(net, plan.batch, plan.side), count.optimizer_bytes(net), operations, moved)
    return {"bf16_tflops": operations / 1e12, "copy_tbs": moved / 1e12, "slices_s": plan.batch / step_s}


def data(plan: Plan, work: Path) -> dict[str, Any]:
    """Phantoms, preprocessed; so that real files, hashes and draws are behind every batch."""
    write_sample(work / "tree", cases=plan.cases, test_cases=0, shape=plan.shape, seed=0)
    done = preprocess(work / "tree", work / "slices", size=plan.side)
    return {"slices": sum(len(record.slices) for record in done.manifest.cases.values())}


class Step:
    """The bare training step of `classic`: what Lightning's loop does, without Lightning."""

    def __init__(self, device: torch.device, compiled: str) -> None:
        torch.manual_seed(0)
        self.net = UNet().to(device, memory_format=torch.channels_last)
        mode = {"eager": None, "compiled": "default"}.get(compiled, compiled)
        self.call = self.net if mode is None else torch.compile(self.net, mode=mode, dynamic=False)
        fused = device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-4, fused=fused)
        self.device = device

    def __call__(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = bce(self.call(image.contiguous(memory_format=torch.channels_last)), mask)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def endless(device: torch.device, plan: Plan, work: Path) -> Iterator[Batch]:
    """Batches as `lungseg train` draws and augments them on the device; whole ones only."""
    manifest = Manifest.read(work / "slices")
    dataset = LungDataset(manifest, manifest.labelled, in_memory=True, with_index=True)
    dataset.hold_on(device)
    augment, epoch = TorchAugment(recipe_named("classic").augmentation), 0
    while True:
        draws = make_sampler(dataset, seed=0, epoch=epoch).draws()
        for image, mask, index in ResidentBatches(dataset, draws, plan.batch, device):
            if len(image) == plan.batch:
                yield augment(image, mask, SampleRandom(0, epoch, index))
        epoch += 1


def rate(step: Callable[..., Any], batches: Iterator[Batch], seconds: float, plan: Plan, device: torch.device) -> float:
    """Slices a second, sustained; the clock is read when the device has caught up."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(plan.chunk):
            step(*next(batches))
            done += plan.batch
        settle(device)
    return done / (time.perf_counter() - started)


def constant(batch: Batch) -> Iterator[Batch]:
    while True:
        yield batch


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def variants(device: torch.device, plan: Plan, work: Path) -> dict[str, float]:
    """Slices a second of each way to run the step, with one batch that never changes."""
    batch, rates = next(endless(device, plan, work)), {}
    names = (
        ["eager"] if device.type == "cpu" else ["eager", "compiled", "reduce-overhead", "max-autotune-no-cudagraphs"]
    )
    for name in names:
        try:
            step = Step(device, name)
            for _ in range(plan.chunk):
                step(*batch)
            rates[name] = rate(step, constant(batch), plan.try_s, plan, device)
        except Exception as error:  # a way that does not work on this machine is no way
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
    return rates


def ours(device: torch.device, plan: Plan, work: Path, name: str) -> dict[str, Any]:
    """The quickest variant with real and with constant batches, in turns."""
    step, batches = Step(device, name), endless(device, plan, work)
    batch = next(batches)
    for _ in range(plan.chunk):
        step(*next(batches))
    parts = 4
    real, same = [], []
    for _ in range(parts):
        real.append(rate(step, batches, plan.run_s / parts, plan, device))
        same.append(rate(step, constant(batch), plan.run_s / parts / 3, plan, device))
    found = {"variant": name, "slices_s": sum(real) / parts, "constant_slices_s": sum(same) / parts}
    shares = sorted(one / other for one, other in zip(real, same, strict=True))
    return {**found, "share_of_constant": (shares[1] + shares[2]) / 2}


def training(device: torch.device, plan: Plan, work: Path) -> dict[str, Any]:
    """``lungseg.train`` as users call it, from its own record: the epochs after the first, which compiles and warms."""
    from lungseg.callbacks import read_metrics
    from lungseg.train import train

    chosen: Recipe = recipe_named("classic").but(batch_size=plan.batch, epochs=1000, compile=device.type == "cuda")
    result = train(
        work / "slices", work / "run", recipe=chosen, max_minutes=plan.train_minutes, device=device.type, n_folds=4
    )
    rows = read_metrics(result.metrics)[1:-1]  # the last epoch may be a part of one
    slices = json.loads((work / "run/config.json").read_text())["data"]["slices"]
    seconds = sum(row["seconds"] for row in rows)
    return {"epochs": len(rows), "slices_s_with_validation": len(rows) * slices / seconds if rows else None}


def recipe(device: torch.device, plan: Plan, work: Path, baseline: Path | None) -> dict[str, Any]:
    """The recipe's loop with data for free, and its own script where all that it needs is here."""
    torch.manual_seed(0)
    net = UNet().to(device)
    optimizer, loss_of = torch.optim.Adam(net.parameters(), lr=1e-4), torch.nn.BCEWithLogitsLoss()
    batch = next(endless(device, plan, work))

    def step(image: torch.Tensor, mask: torch.Tensor) -> float:
        loss = loss_of(net(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    for _ in range(plan.chunk):
        step(*batch)
    found: dict[str, Any] = {"data_for_free_slices_s": rate(step, constant(batch), plan.try_s, plan, device)}
    needs = ("nibabel", "imgaug", "celluloid")
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if baseline is None or not (baseline / "train.py").is_file() or missing or device.type == "cpu":
        return {**found, "own_script": f"not run: needs --baseline and a GPU; missing here: {missing}"}
    for words in (
        ["preprocess.py", work / "tree", work / "recipe", "--sort", "--n-val", "1"],
        ["train.py", work / "recipe", work / "recipe_run", "--epochs", "1", "--workers", "8", "--max-val", "8"],
    ):
        subprocess.run([sys.executable, baseline / words[0], *map(str, words[1:])], check=True, capture_output=True)
    epoch = json.loads((work / "recipe_run/result.json").read_text())["epochs"][0]
    return {**found, "slices_s": epoch["steps"] * 8 / epoch["train_s"]}


def conclude(found: dict[str, Any]) -> None:
    """Ratios from what was measured."""
    own, roof = found["ours"]["slices_s"], found["ceilings"]["slices_s"]
    found["roofline"] = {"slices_s": roof, "share": own / roof}
    # Without its own script the recipe is given its loop with data for free, so the ratio is the least that it can be.
    found["ratio"] = own / found["recipe"].get("slices_s", found["recipe"]["data_for_free_slices_s"])
    found["budget_minutes"] = BUDGET / own / 60


if __name__ == "__main__":
    main()

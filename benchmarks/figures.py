"""Measure what README and docs state, and write it there: no figure is typed by hand.

    python benchmarks/figures.py demo [OUT]      run `lungseg demo` in an empty folder (OUT is kept) and measure it
    python benchmarks/figures.py real OUT        collect what benchmarks/real_data.sh has written to OUT
    python benchmarks/figures.py crossval OUT    collect what benchmarks/crossval.sh has written to OUT
    python benchmarks/figures.py write           write the tables of benchmarks/results/ into README.md and docs again

Each measurement is a file of `benchmarks/results/` with its machine, its data and its date.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import tree_of
from speed_tables import between

from lungseg.config import RECIPES
from lungseg.executor import cores
from lungseg.records import write_json

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
SHARDS = HERE.parent / "docs" / "shards.md"
ACCURACY = HERE.parent / "docs" / "accuracy.md"
LIMITS = "most slices show tumour (84 %), HU put back from 8 bits, gaps between slices"
LUNGSEG = Path(sys.executable).with_name("lungseg")


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code: processor, cores, memory, versions."""
    import torch

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as file:
        name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": name,
        "cores": cores(),
        "memory_gib": round(memory),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
    }


def measured_run(command: list[str]) -> tuple[float, float]:
    """Run a command; returns seconds and the peak memory of all its processes together, GB (proportional set size)."""
    started, peak = time.monotonic(), 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, sum(_pss_bytes(pid) for pid in tree_of(process.pid)))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return time.monotonic() - started, peak / 1e9


def _pss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def demo(out: Path | None = None) -> None:
    """Measure `lungseg demo` from an empty folder: ``out``, or one that is removed again."""
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            demo(Path(folder) / "demo")
        return
    if out.exists():
        raise SystemExit(f"{out} is there already: a measurement wants an empty folder")
    seconds, peak_gb = measured_run([str(LUNGSEG), "demo", str(out)])
    summary = json.loads((out / "run/evaluation/summary.json").read_text())
    config = json.loads((out / "run/config.json").read_text())
    _record(
        "demo",
        {
            "what": "lungseg demo: 12 labelled and 2 unlabelled synthetic scans of 256 x 256 x 64",
            "minutes": round(seconds / 60, 1),
            "training_minutes": round(config["finished"]["minutes"], 1),
            "epochs": config["finished"]["epochs"],
            "peak_memory_gb": round(peak_gb, 1),
            "precision": config["machine"]["precision"],
            **_scores(summary),
        },
    )


def real(out: Path) -> None:
    """Collect the figures of a finished benchmarks/real_data.sh."""
    summary = json.loads((out / "run/evaluation/summary.json").read_text())
    config = json.loads((out / "run/config.json").read_text())
    whole = json.loads((out / "score.json").read_text())
    _record(
        "real_data",
        {
            "what": "46 patients of Task06_Lung as sets of slices, fold 0 of nnU-Net's folds held out; two whole CTs",
            "limits": LIMITS,
            "recipe": summary["model"]["recipe"],
            "training_minutes": round(config["finished"]["minutes"], 1),
            "epochs": config["finished"]["epochs"],
            "precision": config["machine"]["precision"],
            **_scores(summary),
            "whole_scans": [{key: case[key] for key in ("case", "dice", "truth_ml", "predicted_ml")} for case in whole],
        },
    )


def crossval(out: Path) -> None:
    """Collect the figures of a finished benchmarks/crossval.sh, of the sample or of slice sets."""
    summary = json.loads((out / "run/evaluation/summary.json").read_text())
    folds = [json.loads((out / f"run/folds/{number}/config.json").read_text()) for number in summary["folds_scored"]]
    with open(out / "run/evaluation/cases.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    real = summary["slice_sets"]
    tuned, plain = summary["tuned"]["calibration"], summary["calibration"]
    _record(
        "crossval_slices" if real else "crossval_sample",
        {
            "what": f"{len(rows)} patients of Task06_Lung as sets of slices, nnU-Net's folds"
            if real
            else f"{len(rows)} synthetic patients of `lungseg sample`, {len(folds)} folds",
            **({"limits": LIMITS} if real else {}),
            "recipe": summary["model"]["recipe"],
            "epochs_a_fold": [fold["finished"]["epochs"] for fold in folds],
            "ended_by": sorted({fold["finished"]["reason"] for fold in folds}),
            "minutes_a_fold": [round(fold["finished"]["minutes"], 1) for fold in folds],
            "precision": folds[0]["machine"]["precision"],
            **_scores(summary),
            "tuned": {
                **{name: summary["tuned"][name] for name in ("dice_mean", "dice_interval", "dice_median", "missed")},
                "gain_in_dice": summary["tuned"]["gain_in_dice"],
            },
            "predict_uses": summary["predict_uses"],
            "measures": summary["measures"],
            "slices": summary["slices"],
            **({} if real else {"lesions": summary["lesions"]["all"]}),
            "calibration": {
                name: {key: values[key] for key in ("temperature", "ece", "brier", "brier_of_prevalence", "log_loss")}
                for name, values in (("plain", plain), ("nested", tuned))
            },
            "dice_by_fold": {
                str(number): _mean([float(row["dice"]) for row in rows if row["fold"] == str(number)])
                for number in summary["folds_scored"]
            },
            "cases": [
                {"case": row["case"], "fold": int(row["fold"]), "dice": float(row["dice"]),
                 "tuned_dice": float(row["tuned_dice"])} for row in rows
            ],
        },
    )  # fmt: skip


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 6)


def _scores(summary: dict[str, Any]) -> dict[str, Any]:
    names = ("patients", "dice_mean", "dice_interval", "dice_median", "missed")
    return {
        **{name: summary[name] for name in names},
        "soft_dice_pooled": summary["published_recipe"]["soft_dice_pooled"],
    }


def _record(name: str, values: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", {"date": datetime.date.today().isoformat(), **values, "machine": machine()})
    print(f"wrote {RESULTS.name}/{name}.json")
    write()


def write() -> None:
    """Put the tables of all results between their markers in README.md, docs/accuracy.md and docs/shards.md."""
    tables: dict[str, tuple[Path, Any]] = {
        "demo": (README, _demo_table),
        "real_data": (ACCURACY, _real_table),
        "crossval_slices": (ACCURACY, _crossval_table),
        "crossval_sample": (ACCURACY, _crossval_table),
        "recipes": (README, _recipes_table),
        "shards": (SHARDS, _shards_table),
    }
    for name, (page, table) in tables.items():
        path = RESULTS / f"{name}.json"
        if name == "recipes" or path.is_file():
            between(page, name, table({} if name == "recipes" else json.loads(path.read_text())))
    print("wrote README.md, docs/accuracy.md and docs/shards.md")


def _dice(values: dict[str, Any]) -> str:
    low, high = values["dice_interval"]
    return f"{values['dice_mean']:.2f} ({low:.2f} to {high:.2f})"


def _source(values: dict[str, Any]) -> str:
    facts = values["machine"]
    where = facts["gpu"] or f"{facts['cores']} cores of {facts['cpu']}"
    return f"Measured {values['date']} on {where}, torch {facts['torch']}, {values['precision']} precision"


def _demo_table(values: dict[str, Any]) -> str:
    rows = {
        "time after installing": f"{values['minutes']} minutes, {values['training_minutes']} of them training",
        "peak memory": f"{values['peak_memory_gb']} GB",
        f"mean Dice over the {values['patients']} held-out patients (95 % interval)": _dice(values),
        "patients missed": str(values["missed"]),
    }
    return _table(("`make demo`", "on this sample"), rows.items()) + f"\n{_source(values)}, by `make bench-demo`.\n"


def _real_table(values: dict[str, Any]) -> str:
    rows = {
        f"mean Dice over {values['patients']} held-out patients of the slice sets (95 % interval)": _dice(values),
        "median Dice; missed": f"{values['dice_median']:.2f}; {values['missed']}",
        "pooled soft Dice of the published recipe, not comparable": f"{values['soft_dice_pooled']:.2f}",
    }
    for case in values["whole_scans"]:
        volumes = f"{case['predicted_ml']:.1f} ml found, {case['truth_ml']:.1f} ml true"
        rows[f"whole CT `{case['case']}`"] = f"Dice {case['dice']:.2f} ({volumes})"
    head = (f"recipe `{values['recipe']}`, {values['training_minutes']:.0f} minutes on a CPU", "real CT")
    return _table(head, rows.items()) + f"\n{_source(values)}, by `benchmarks/real_data.sh`. {values['what']}.\n"


def _crossval_table(values: dict[str, Any]) -> str:
    tuned, slices, settings = values["tuned"], values["slices"], values["predict_uses"]
    gain, (low, high) = tuned["gain_in_dice"]["mean"], tuned["gain_in_dice"]["interval"]
    rows = {
        "mean Dice, threshold 0.5, nothing dropped (95 % interval)": _dice(values),
        "the same, settings chosen on the other folds": f"{_dice(tuned)}; gain {gain:+.3f} ({low:+.3f} to {high:+.3f})",
        "median Dice; missed": f"{values['dice_median']:.2f}; {values['missed']}",
        "mean Dice by fold": ", ".join(f"{dice:.2f}" for dice in values["dice_by_fold"].values()),
        "slices with tumour in which some was found": f"{slices['found']:,} of {slices['with_tumour']:,}",
    }
    if "lesions" in values:
        measures, lesions = values["measures"], values["lesions"]
        distance = measures["hd95_mm"]
        rows["surface Dice at 2 mm; median Hausdorff 95 %"] = (
            f"{_number(measures['nsd_2mm']['mean'], 2)}; {_number(distance['median'], 1)} mm"
        )
        rows["lesions found; false positives a scan"] = (
            f"{lesions['found']} of {lesions['true']}; {lesions['false_positives_per_scan']:.2f}"
        )
    errors = [values["calibration"][name]["ece"] for name in ("plain", "nested")]
    rows["calibration error near the lungs, without and with temperature"] = " and ".join(
        _number(error, 4) for error in errors
    )
    share = f" and {100 * settings['smallest_share']:g} % of the heaviest" if "smallest_share" in settings else ""
    rows["`predict` then uses"] = (
        f"threshold {settings['threshold']:g}, smallest {settings['smallest_ml']:g} ml{share}, "
        f"temperature {settings['temperature']:.2f}"
    )
    time, epochs = _between(values["minutes_a_fold"]), _between(values["epochs_a_fold"])
    head = (f"recipe `{values['recipe']}`, {epochs} epochs ({time} minutes) a fold", values["what"])
    limits = f" Limits: {values['limits']}." if "limits" in values else ""
    return _table(head, rows.items()) + f"\n{_source(values)}, by `benchmarks/crossval.sh`.{limits}\n"


def _number(value: float | None, places: int) -> str:
    """A measure, or a dash where it is not defined."""
    return "-" if value is None else f"{value:.{places}f}"


def _between(values: list[float]) -> str:
    """``4``, or ``4 to 6``."""
    return " to ".join(dict.fromkeys(f"{value:.0f}" for value in (min(values), max(values))))


def _recipes_table(_: dict[str, Any]) -> str:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lungseg.unet import UNet, parameter_count

    def operations(net: torch.nn.Module) -> float:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 1, 256, 256))
        return float(counter.get_total_flops())

    nets = {name: UNet(recipe.unet) for name, recipe in RECIPES.items()}
    rows = [
        (
            f"`{name}`",
            f"{parameter_count(nets[name]):,}",
            f"{operations(nets[name]) / 1e9:.1f} GFLOP",
            f"{recipe.loss}, {recipe.optimizer} {recipe.learning_rate:g}",
            f"{recipe.epochs} of batch {recipe.batch_size}",
        )
        for name, recipe in RECIPES.items()
    ]
    return _table(("recipe", "parameters", "forward pass of a slice", "loss, optimizer", "epochs"), rows)


def _shards_table(values: dict[str, Any]) -> str:
    low, high = values["times_as_many_range"]
    rows = [
        ("`.npy` files", f"{values['files_slices_per_s']:.0f}"),
        ("local shards", f"{values['shards_slices_per_s']:.0f}"),
        ("times as many", f"{values['times_as_many']:.1f} ({low:.1f} to {high:.1f})"),
    ]
    facts, load = values["machine"], values["load"]
    head = ("read with no file in memory, one process", "slices a second")
    return _table(head, rows) + (
        f"\nMeasured {values['date']} on {facts['cores']} cores of {facts['cpu']} and its disk by `make bench-shards`: "
        f"{values['slices']:,} slices, {values['share_with_tumour']:.0%} with tumour, {values['rounds']} rounds. "
        f"Other programs ran meanwhile (load {min(load):.0f} to {max(load):.0f}).\n"
    )


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("demo", "real", "crossval", "write"))
    parser.add_argument("out", nargs="?", type=Path)
    args = parser.parse_args()
    if args.what in ("real", "crossval"):
        if args.out is None:
            parser.error("name the folder that the script of benchmarks/ has written")
        {"real": real, "crossval": crossval}[args.what](args.out)
    elif args.what == "demo":
        demo(args.out)
    else:
        write()


if __name__ == "__main__":
    main()

"""The tables and the plot of what was measured on the CPU and on the GPU, from results/ to where they are read."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from lungseg.files import atomic_path, atomic_write

HERE = Path(__file__).resolve().parent
PLOT = HERE / "growth.png"
NOT_YET = "not measured yet"
NNUNET_STEPS = 250  # training steps of an epoch, nnU-Net v2's default


def write() -> None:
    """Put every table between its markers, and draw the plot again."""
    cpu, gpu, accuracy, step = (_results(name) for name in ("cpu", "gpu", "accuracy_gpu", "gpu_step"))
    between(HERE / "README.md", "cpu", cpu_table(cpu))
    between(HERE / "README.md", "peers", peers_table(cpu))
    between(HERE / "README.md", "gpu", gpu_table(gpu, accuracy, step))
    between(HERE.parent / "README.md", "speed", short_table(cpu, gpu))
    if "growth" in cpu.get("rows", {}):
        plot(cpu["rows"]["growth"])


def cpu_table(results: dict[str, Any]) -> str:
    """Every row with its goal; what was not measured says so."""
    found = results.get("rows", {})
    lines = ["| what | goal | found | by CPU time | CPU time, ours : other |", "| --- | --- | --- | --- | --- |"]

    def row(what: str, goal: str, name: str, cell: Any, seconds: Any = None, of: Any = lambda values: values) -> None:
        values = found.get(name)
        shown = NOT_YET if values is None else cell(values if seconds is None else of(values))
        timed = "" if values is None or seconds is None else seconds(of(values))
        by_cpu = ""
        if values is not None and seconds is not None:
            by_cpu = _ratio(of(values), "cpu_ratio")
            if values["load_before"] > values["machine"]["cores"]:
                shown = "(other programs ran)"  # the clock says how much they took, not how quick anything is
        lines.append(f"| {what} | {goal} | {shown} | {by_cpu} | {timed} |")

    for workers, goal in ((2, "12"), (1, "7")):
        key = str(workers)
        row(
            f"preprocess 24 scans, {_workers(workers)}, against the recipe",
            f"at least {goal} times",
            "preprocess_24",
            _ratio,
            _seconds,
            lambda v, key=key: v["recipe"][key],
        )
    for workers in (2, 1):
        key = str(workers)
        row(
            f"the same against only inflating the files, {_workers(workers)}",
            "at most 1.7 times as long",
            "preprocess_24",
            _ratio,
            lambda v: f"{v['other_cpu_s']:.2f} : {v['ours_cpu_s']:.2f} s",
            lambda v, key=key: v["inflate"][key],
        )
    row("preprocess two scans, whole commands", "at least 5 times", "preprocess_2", _ratio, _seconds)
    row("bytes written", "at most a fifth", "preprocess_2", lambda v: f"{v['bytes_share']:.3f}")
    row(
        "peak memory of a worker, 512 x 512 x 304",
        "at most 600 MB",
        "memory",
        lambda v: f"{v['ours']['process_mb']:.0f} MB (recipe {v['recipe']['process_mb']:.0f} MB)",
    )
    row(
        "growth from 2 to 32 scans, 1 worker: CPU seconds a scan (95 % interval)",
        "a straight line",
        "growth",
        lambda v: f"{v['slope_s']:.3f} ({_interval(v['slope_interval_s'])})",
    )
    row(
        "what a square term adds at 32 scans, as a share (95 % interval)",
        "0 inside",
        "growth",
        lambda v: f"{v['curvature']:.3f} ({_interval(v['curvature_interval'])})",
    )
    row(
        "memory at 2 and at 32 scans",
        "the same",
        "growth",
        lambda v: " and ".join(f"{value:.0f} MB" for value in v["memory_mb"].values()),
    )
    row(
        "sampler weights for 15,767 slices",
        "under 20 ms",
        "weights",
        lambda v: f"{v['ours_ms']:.2f} ms (recipe {v['recipe_s']:.0f} s)",
    )
    row(
        "load and augment a slice with its mask, one core",
        "at least 5 times",
        "load",
        _ratio,
        _milliseconds,
        lambda v: v["load_and_augment"],
    )
    row("load it only, its hash checked", "", "load", _ratio, _milliseconds, lambda v: v["load"])
    row("`classic`, the network alone, a slice", "", "forward", _ratio, _seconds)
    row("predict `lung_001`, whole commands", "at least 4 times", "predict", _ratio, _seconds)
    row(
        "Dice of the two masks",
        "at least 0.999",
        "predict",
        _dice_of_masks,
    )
    row("its peak memory", "under 1.5 GB", "predict", lambda v: f"{v['memory']['process_mb'] / 1000:.2f} GB")
    slow = "predict_float32"
    row("predict `lung_001` on a processor without bf16", "not slower", slow, _ratio, _seconds)
    row("Dice of the two masks there", "at least 0.999", slow, _dice_of_masks)
    row("animation of 304 slices against celluloid", "at least 10 times", "animation", _ratio, _seconds)
    row("`lungseg --help`, CPU time", "under 0.5 s", "start", lambda v: f"{v['help_s']:.2f} s")
    row("a Python that imports lungseg and ends, CPU time", "under 0.2 s", "start", lambda v: f"{v['import_s']:.2f} s")
    picture = ["", f"![CPU seconds against the number of scans]({PLOT.name})"] if "growth" in found else []
    return "\n".join([*lines, "", _measured(found), *_slow_bf16(found), *picture]) + "\n"


def _dice_of_masks(values: dict[str, Any]) -> str:
    return f"{values['dice_of_masks']:.4f} (weights after {values['steps']} steps)"


def _slow_bf16(found: dict[str, Any]) -> list[str]:
    """Why a prediction can not be four times as fast on a processor without matrix units."""
    if "predict" not in found or found["predict"]["amx"]:
        return []
    why = "twice the rate of float32: the network, nearly all of a prediction, can be about twice as fast and no more"
    return [f"The processor that predicted has no matrix units (AMX), and its bf16 has {why}."]


LOADED = ("monai_cache", "monai_persistent", "torchio", "batchgenerators", "nnunet_loader")
PEERS = {
    "monai_cache": "MONAI `CacheDataset` and `Rand2DElasticd`",
    "monai_persistent": "MONAI `PersistentDataset` and `Rand2DElasticd`",
    "torchio": "TorchIO `RandomAffine` and `RandomElasticDeformation`",
    "batchgenerators": "batchgeneratorsv2 `SpatialTransform`",
    "nnunet_loader": "nnU-Net's 2D loader with its own augmentation (more than ours: grey levels as well)",
    "monai": "MONAI's transforms to a `PersistentDataset`, two scans",
    "nnunet": "nnU-Net's fingerprint, plan and `2d` preprocessing, two scans",
}


def peers_table(results: dict[str, Any]) -> str:
    """Other tools against us on the same work, by CPU time on one thread."""
    found = results.get("rows", {}).get("peers")
    lines = ["| what | times our CPU time | ours : other |", "| --- | --- | --- |"]
    cells = {} if found is None else {**found["load"], **found["volumes"]}
    for name, what in PEERS.items():
        values = cells.get(name)
        ratio = NOT_YET if values is None else f"failed: {values['failed']}" if "failed" in values else None
        unit = _milliseconds if name in LOADED else _seconds
        lines.append(f"| {what} | {ratio or _ratio(values, 'cpu_ratio')} | {'' if ratio else unit(values)} |")
    if found is None:
        return "\n".join([*lines, "", "Not measured yet; `make bench-peers` fills this in."]) + "\n"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    machine = found["machine"]
    said = (
        f"Measured {found['date']} on {machine['cores']} cores of {machine['cpu']} by `make bench-peers`: {versions}."
    )
    return "\n".join([*lines, "", said]) + "\n"


def gpu_table(
    results: dict[str, Any], accuracy: dict[str, Any] | None = None, step: dict[str, Any] | None = None
) -> str:
    """Every GPU figure with its goal; what was not measured says so.

    Args:
        results: of gpu.py.
        accuracy: of the accuracy study on a GPU, where nnU-Net's epochs are timed (:func:`nnunet_rate`).
        step: of a later run of gpu.py, of its parts ``ours`` and ``profile`` alone.
    """
    measured = results if results.get("kind") == "gpu" else {}
    lines = ["| what | goal | found |", "| --- | --- | --- |"]
    for what, goal, key, form in (
        ("one step of `classic`, batch 8: operations counted", "", "count.tflop", "{:.2f} TFLOP"),
        ("bytes that it must move", "", "count.gbytes", "{:.2f} GB"),
        ("ceiling: bf16 matrix product", "", "ceilings.bf16_tflops", "{:.0f} TFLOP/s"),
        ("ceiling: copy, read and written", "", "ceilings.copy_tbs", "{:.2f} TB/s"),
        ("roofline for this network", "", "ceilings.slices_s", "{:.0f} slices/s"),
        ("`lungseg train --compile`, batch 8, real batches", "", "train.slices_s", "{:.0f} slices/s"),
        ("seconds of it that were counted", "60", "train.seconds", "{:.0f} s"),
        ("the recipe's train.py, batch 8, float32, 8 workers", "", "recipe.slices_s", "{:.0f} slices/s"),
        ("its loop with data for free", "", "recipe.data_for_free_slices_s", "{:.0f} slices/s"),
        ("ours against the recipe", "at least 5 times", "goals.times_recipe", "{:.1f} times"),
        ("ours against its loop with data for free", "", "goals.times_recipe_with_free_data", "{:.1f} times"),
        ("share of the roofline", "at least 60 %", "goals.share_of_roofline", "{:.0%}"),
        ("`train` against the bare step, one batch for ever", "at least 95 %", "goals.share_of_constant", "{:.1%}"),
        ("the bare step, real batches against one for ever", "", "ours.share_of_constant", "{:.1%}"),
        ("30 x 14,470 slices at that rate", "under 6 minutes on an H100", "goals.budget_minutes", "{:.1f} minutes"),
        ("with the checkpoints of 30 epochs", "", "goals.budget_minutes_with_checkpoints", "{:.1f} minutes"),
        ("predict 512 x 512 x 304, file to file", "under 1.5 s", "predict.total_s", "{:.2f} s"),
        (f"MONAI's `UNet`{_share_of_work(measured)}, data for free", "", "monai.UNet.slices_s", "{:.0f} slices/s"),
        ("the same with MONAI's own data path", "", "monai.UNet.with_data_slices_s", "{:.0f} slices/s"),
        ("MONAI's `BasicUNet`, widths of `classic`, data for free", "", "monai.BasicUNet.slices_s", "{:.0f} slices/s"),
    ):
        value = _at(measured, key)
        shown = NOT_YET if value is None else form.format(value)
        if key == "train.slices_s" and _at(measured, "train.compile_failed"):
            shown += " (uncompiled: compiling failed)"
        lines.append(f"| {what} | {goal} | {shown} |")
    nnunet = nnunet_rate(accuracy)
    shown = NOT_YET if nnunet is None else f"{nnunet:.0f} slices/s"
    lines.append(f"| nnU-Net v2 `2d`, epochs of its own trainer, its validation in them |  | {shown} |")
    lines += ["", *_stages(measured), *_ways(measured)]
    device = measured.get("device")
    said = f"Measured {results['date']} on {device}, torch {results['torch']}, by `make bench-gpu`." if device else ""
    lines.append(said or "No GPU was at hand yet; `make bench-gpu` fills this in.")
    return "\n".join([*lines, *_step_again(step or {}, measured)]) + "\n"


def _step_again(step: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    """The bare step in a later run, beside what it was."""
    found, before = _at(step, "ours.compiled_augmentation"), _at(measured, "ours.slices_s")
    if step.get("kind") != "gpu" or not isinstance(found, dict) or "slices_s" not in found:
        return []
    roof, kernels = _at(measured, "ceilings.slices_s"), _at(step, "profile.kernels_ms")
    rows = [
        ("real batches", f"{found['slices_s']:.0f} slices/s" + (f" (before: {before:.0f})" if before else "")),
        ("one batch for ever", f"{found['constant_slices_s']:.0f} slices/s"),
        ("share of the roofline", f"{found['slices_s'] / roof:.0%}" if roof else NOT_YET),
        (
            "kernels of a step",
            f"{kernels:.1f} ms, which alone would be {8e3 / kernels:.0f} slices/s" if kernels else NOT_YET,
        ),
    ]
    said = f"Measured {step['date']} on {step['device']}, torch {step['torch']}, by `gpu.py --parts warm ours profile`."
    head = "| the bare step of batch 8, compiled, after upsampling got a gradient of its own | found |"
    return ["", head, "| --- | --- |", *(f"| {what} | {value} |" for what, value in rows), "", said]


def nnunet_rate(accuracy: Any) -> float | None:
    """Training slices a second of nnU-Net, from every record in ``accuracy`` with ``epoch_s`` and ``batch``.

    The first epoch of a run, which compiles and warms up, is left out where there are more.
    """
    rates: list[float] = []

    def look(values: Any) -> None:
        if isinstance(values, dict) and values.get("epoch_s") and values.get("batch"):
            seconds = values["epoch_s"][1:] or values["epoch_s"]
            steps = values.get("iterations", NNUNET_STEPS)
            rates.extend(steps * values["batch"] / one for one in seconds)
        for value in values.values() if isinstance(values, dict) else values if isinstance(values, list) else ():
            look(value)

    look(accuracy)
    return statistics.median(rates) if rates else None


def _at(values: Any, key: str) -> Any:
    """``values["a"]["b"]`` for ``a.b``; None where a part failed or is not there."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _share_of_work(measured: dict[str, Any]) -> str:
    """How much less MONAI's network has to do than `classic`, a slice."""
    step, batch, other = (_at(measured, key) for key in ("count.tflop", "count.batch", "monai.UNet.gflop_a_slice"))
    return f" (1/{step * 1e3 / batch / other:.0f} of the operations)" if step and batch and other else ""


def _stages(measured: dict[str, Any]) -> list[str]:
    """Where the time of a prediction goes."""
    stages = _at(measured, "predict.stages_s")
    if not stages:
        return []
    rows = [f"| {stage} | {seconds:.3f} |" for stage, seconds in stages.items()]
    return ["| predict, file to file | seconds |", "| --- | --- |", *rows, ""]


def _ways(measured: dict[str, Any]) -> list[str]:
    """The ways to run the step that were tried; the goals are held at batch 8."""
    found = {name: way for name, way in (_at(measured, "variants") or {}).items() if isinstance(way, dict)}
    if not found:
        return []
    rows = [f"| {name} | {way['batch']} | {way['slices_s']:.0f} |" for name, way in found.items()]
    return ["| the bare step, one batch for ever | batch | slices/s |", "| --- | --- | --- |", *rows, ""]


def short_table(cpu: dict[str, Any], gpu: dict[str, Any]) -> str:
    """What README.md shows."""
    found = cpu.get("rows", {})
    parts = (
        ("preprocess two scans", "preprocess_2", lambda v: v),
        ("preprocess 24 scans with 1 worker", "preprocess_24", lambda v: v["recipe"]["1"]),
        ("load and augment a slice", "load", lambda v: v["load_and_augment"]),
        ("predict a CT of 304 slices with `classic`", "predict", lambda v: v),
        ("animate it", "animation", lambda v: v),
    )
    lines = ["| on a CPU | times as fast as the published recipe, by CPU time |", "| --- | --- |"]
    for what, key, of in parts:
        lines.append(f"| {what} | {_ratio(of(found[key]), 'cpu_ratio') if key in found else NOT_YET} |")
    measured = gpu if gpu.get("kind") == "gpu" else {}
    rate, times = _at(measured, "train.slices_s"), _at(measured, "goals.times_recipe")
    training = f"{rate:.0f} slices/s on {gpu['device']}" if rate else NOT_YET
    lines.append(f"| training on a GPU | {f'{times:.0f}: ' if rate and times else ''}{training} |")
    shown = {key: found[key] for _, key, _ in parts if key in found}
    return "\n".join([*lines, "", _measured(shown)]) + "\n"


def plot(growth: dict[str, Any]) -> None:
    """Seconds against the number of scans: every run, and the line through the medians."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for size, seconds in zip(growth["scans"], growth["cpu_seconds"], strict=True):
        axes.plot([size] * len(seconds), seconds, "o", color="#56b4e9", markersize=4)
    sizes = np.array([0, growth["scans"][-1]])
    line = growth["start_s"] + growth["slope_s"] * sizes
    axes.plot(sizes, line, color="#d55e00", label=f"{growth['slope_s']:.2f} s a scan + {growth['start_s']:.2f} s")
    axes.set(xlabel="scans", ylabel="CPU seconds", title="lungseg preprocess, 1 worker", ylim=(0, None), xlim=(0, None))
    axes.legend(frameon=False)
    with atomic_path(PLOT) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _results(name: str) -> dict[str, Any]:
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def between(path: Path, name: str, content: str) -> None:
    start, end = f"<!-- figures: {name} -->\n", f"<!-- end: {name} -->"
    before, found, rest = path.read_text("utf-8").partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{path.name} has no place for the figures of {name}")
    atomic_write(path, (before + start + content + end + after).encode())


def _measured(found: dict[str, Any]) -> str:
    if not found:
        return "Not measured yet; `make bench` fills this in."
    dates = sorted({row["date"] for row in found.values()})
    where = places(
        {name: "{cores} cores of {cpu}, torch {torch}".format(**row["machine"]) for name, row in found.items()}
    )
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"Measured {when} on {where}, by `make bench`. "
        f"Medians of runs in turns, smallest and largest in brackets.{_shared(found)}"
    )


def places(of: dict[str, str]) -> str:
    """Where everything was measured, with the names of what was measured where if that was not one place.

    Args:
        of: the place by the name of what was measured there.
    """
    names: dict[str, list[str]] = {}
    for name, place in of.items():
        names.setdefault(place, []).append(name)
    return " and ".join(place if len(names) == 1 else f"{place} ({', '.join(at)})" for place, at in names.items())


def _shared(found: dict[str, Any]) -> str:
    """What has to be said where other programs had the machine as well."""
    busy = [row["load_before"] for row in found.values() if row["load_before"] > row["machine"]["cores"]]
    if not busy:
        return ""
    load = f"{min(busy):.0f}" if round(min(busy)) == round(max(busy)) else f"{min(busy):.0f} to {max(busy):.0f}"
    return (
        f" Other programs ran meanwhile (load {load} before {len(busy)} of the rows): "
        "there, what is said by CPU time is the sounder figure, and seconds by the clock say little."
    )


def _ratio(values: dict[str, Any], name: str = "ratio") -> str:
    low, high = values[f"{name}_range"]
    spread = f" ({_digits(low)} to {_digits(high)})" if values["rounds"] > 1 else ""
    return f"{_digits(values[name])}{spread}"


def _digits(value: float) -> str:
    """Two digits, three from 10 to 100: 11.5 is not yet 12."""
    return f"{value:.2g}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _seconds(values: dict[str, Any]) -> str:
    return f"{values['ours_cpu_s']:.2f} : {values['other_cpu_s']:.2f} s"


def _milliseconds(values: dict[str, Any]) -> str:
    return f"{values['ours_ms_a_slice']:.2f} : {values['other_ms_a_slice']:.2f} ms"


def _interval(values: list[float]) -> str:
    return f"{values[0]:.3f} to {values[1]:.3f}"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


if __name__ == "__main__":
    write()

"""The tables and the plot of docs/scaling.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import _table
from scaling_facts import ASSUMED, NOT_YET, SCANS, assumed, results

from lungseg.files import atomic_path

DOCS = Path(__file__).resolve().parents[1] / "docs"
DOCUMENT, PLOT = DOCS / "scaling.md", DOCS / "scaling.png"


def cost_table(done: Mapping[str, Any]) -> str:
    scan = done["a_scan"]
    rows = []
    for kind in ("slice", "segment"):
        cores = SCANS * (scan["core_s"][kind] + scan["moved_s"][kind]) / 3600
        busy = SCANS * scan["core_s"][kind] / 3600
        # A worker holds its GPU from file to file, and while it waits for the scan.
        gpus = None if scan["gpu_s"] is None else SCANS * (scan["gpu_s"] + scan["moved_s"][kind]) / 3600
        puts, written = SCANS * scan["objects_written"][kind], SCANS * scan["bytes_written"][kind]
        money = cores * assumed("core_hour") + puts / 1000 * assumed("put_1000") + SCANS / 1000 * assumed("get_1000")
        gpu = "none" if kind == "slice" else NOT_YET if gpus is None else f"{gpus:,.0f}"
        total = f"{money:,.0f} USD"
        if kind == "segment":
            total += ", GPU hours not counted" if gpus is None else f" + {gpus * assumed('gpu_hour'):,.0f} USD"
        rows.append(
            (
                kind,
                f"{busy:,.0f}",
                f"{cores:,.0f}",
                gpu,
                f"{SCANS * scan['bytes_read'] / 1e12:.1f} TB",
                f"{written / 1e12:.2f} TB",
                f"{puts / 1e6:.1f} million",
                total,
                f"{written / 1e9 * assumed('gb_month'):,.0f} USD",
            )
        )
    head = ("to", "core hours of work", "with the wait for data", "GPU hours", "read", "written", "objects written",
            "at the prices below", "a month of keeping it")  # fmt: skip
    return _table(head, rows)


def limit_table(done: Mapping[str, Any]) -> str:
    rows = []
    for workers, found in done["limits"].items():
        first = min(found, key=lambda name: found[name])
        apart = {name: rate for name, rate in found.items() if "prefix" not in name}
        spread_out = min(apart, key=lambda name: apart[name])
        rows.append((workers, *(f"{rate:,.1f}" for rate in found.values()), first, spread_out))
    names = next(iter(done["limits"].values()))
    heads = ("workers", *(f"{name}, cases/s" for name in names), "first limit", "first limit on a file system")
    return _table(heads, rows)


def course_table(done: Mapping[str, Any]) -> str:
    if not done["courses"]:
        return f"The simulation: {NOT_YET} (`make bench-cluster` measures what it starts from).\n"
    rows = [
        (
            way,
            f"{course['workers']:,}",
            f"{course['hours']:.1f}",
            f"{course['busy']:.0%}",
            f"{course['workers'] * course['busy']:,.0f}",
            f"{course['died']:,.0f}",
        )
        for way, found in done["courses"].items()
        for course in found
    ]
    return _table(("results go to", "workers", "hours", "busy", "workers busy", "cases done twice"), rows)


def source_table(done: Mapping[str, Any]) -> str:
    rates, cluster, gpu = results("rates"), results("cluster"), results("gpu")
    scan, dispatch = done["a_scan"], done["dispatch"]

    def said(value: float | None, form: str) -> str:
        return NOT_YET if value is None else form.format(value)

    cpu = f"measured {rates['date']} on {rates['machine']['cpu']} (results/rates.json)"
    spread, cost = (_on(cluster.get("runs", {}).get(name)) for name in ("cases", "overhead"))
    gpu_on = f"measured {gpu['date']} on {gpu['device']} (results/gpu.json)" if scan["gpu_s"] is not None else NOT_YET
    rows = [
        ("slices of a scan", f"{scan['slices']:.0f}, {scan['million_voxels']:.0f} million voxels", "published, a mean"),
        ("bytes of a scan", f"{scan['bytes_read'] / 1e6:.0f} MB", "published: the archive by its 95 scans"),
        ("core time to slice a scan", f"{scan['core_s']['slice']:.2f} s", cpu),
        ("core time to segment it, network left out", f"{scan['core_s']['segment']:.2f} s", cpu),
        ("GPU time to segment it", said(scan["gpu_s"], "{:.2f} s"), gpu_on),
        ("spread of equal cases' time (standard deviation by mean)", said(done["spread_of_time"], "{:.1%}"), spread),
        ("command and scheduler, a case", said(dispatch["hand_over_s"], "{:.4f} s"), cost),
        ("from case to case on a worker", said(dispatch["latency_s"], "{:.4f} s"), cost),
        ("bytes written for a scan", f"{scan['bytes_written']['slice'] / 1e6:.0f} MB", "worked out: 3 bytes a pixel"),
    ]
    rows += [(why, _plain(value, unit), "assumed") for value, unit, why in ASSUMED.values()]
    return _table(("figure", "value", "from"), rows)


def _on(run: Mapping[str, Any] | None) -> str:
    return NOT_YET if run is None else f"measured {run['date']} on {run['cpu']} (results/cluster.json)"


def _plain(value: float, unit: str) -> str:
    return f"{value / 1e6:,g} MB/s" if unit == "bytes/s" else f"{value:,g} {unit}".strip()


def gradient_line(done: Mapping[str, Any]) -> str:
    own, moved, line = done["gradient_bytes"], 2 * done["gradient_bytes"], assumed("rank_bytes_s")
    return (
        f"Training on several hosts moves the gradients of every step: {own / 1e6:.0f} MB for `classic`, up to "
        f"{moved / 1e6:.0f} MB in and out of each host (a ring of many hosts). At {line * 8 / 1e9:.0f} Gbit/s that "
        f"allows {line / moved:.0f} steps a second, whatever the number of hosts; what a GPU does stands in "
        "benchmarks/README.md.\n"
    )


def plot(done: Mapping[str, Any]) -> None:
    """Share of busy workers against their number."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for (way, found), colour, mark in zip(done["courses"].items(), ("#0072b2", "#d55e00"), "os", strict=True):
        workers, busy = ([course[key] for course in found] for key in ("workers", "busy"))
        axes.plot(workers, [100 * share for share in busy], f"{mark}-", color=colour, label=f"results go to {way}")
    axes.set(
        xlabel="workers", ylabel="busy, %", xscale="log", ylim=(0, 105), title=f"slicing {SCANS:,} scans, simulated"
    )
    axes.legend(frameon=False, loc="lower left", fontsize="small")
    with atomic_path(PLOT) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
    plt.close(figure)

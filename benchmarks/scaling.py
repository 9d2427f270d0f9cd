"""What 100,000 scans cost, and how many workers stay busy: docs/scaling.md, results/scaling.json and docs/scaling.png.

    python benchmarks/scaling.py

Everything is worked out from benchmarks/results/ (rates, cluster, gpu) and from what scaling_facts.py assumes; nothing
is typed into the document.  What was not measured yet says so.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from figures import RESULTS  # noqa: E402
from scaling_facts import (  # noqa: E402
    ASSUMED,
    AT_ONCE,
    IN_ARCHIVE,
    LABELLED,
    MVOX,
    PLANE,
    SCANS,
    SLICES,
    WORKERS,
    assumed,
    results,
)
from scaling_model import Cluster, simulate  # noqa: E402
from scaling_tables import DOCUMENT, cost_table, course_table, gradient_line, limit_table, plot, source_table  # noqa: E402
from speed_tables import between  # noqa: E402

from lungseg.config import RECIPES, PreprocessConfig  # noqa: E402
from lungseg.download import TASK06  # noqa: E402
from lungseg.records import write_json  # noqa: E402
from lungseg.unet import UNet, parameter_count  # noqa: E402


def work_out() -> dict[str, Any]:
    """All figures, each from what it is worked out of."""
    rates, runs, gpu = results("rates"), results("cluster").get("runs", {}), results("gpu")
    size, skipped = PreprocessConfig().size, int(PreprocessConfig().skip_slices)
    slices = SLICES / LABELLED
    written_slices = slices - skipped
    mvox = slices * PLANE / MVOX
    read_bytes = (TASK06.bytes or 0) / IN_ARCHIVE
    slice_bytes = written_slices * size**2 * 3  # an image of 2 bytes a pixel, a mask of 1
    puts = 2 * written_slices + 2  # and the tumour, and the record
    on_gpu = gpu.get("predict", {}).get("total_s") if gpu.get("kind") == "gpu" else None
    gpu_s = None if on_gpu is None else on_gpu * slices / 304  # measured on a scan of 304 slices
    core_s = {"slice": mvox * rates["preprocess_s"], "segment": mvox * rates["predict_s"]}
    moved_s = {
        "slice": (read_bytes + slice_bytes) / assumed("worker_bytes_s") + puts / AT_ONCE * assumed("put_s"),
        "segment": read_bytes / assumed("worker_bytes_s") + 2 * assumed("put_s"),
    }
    per_scan = {
        "slices": slices,
        "million_voxels": mvox,
        "bytes_read": read_bytes,
        "bytes_written": {"slice": slice_bytes, "segment": 0.01 * mvox * MVOX},
        "objects_written": {"slice": puts, "segment": 2.0},
        "core_s": core_s,
        "gpu_s": gpu_s,
        "moved_s": moved_s,
    }
    spread = np.array(runs["cases"]["cpu_s"]) if "cases" in runs else None
    overhead = runs.get("overhead", {})
    dispatch = {
        "hand_over_s": None if not overhead else max(overhead["command_cpu_ms"], overhead["scheduler_cpu_ms"]) / 1000,
        "latency_s": None if not overhead else overhead["ms_quickest"] / 1000,
    }
    return {
        "date": datetime.date.today().isoformat(),
        "scans": SCANS,
        "assumed": {name: value for name, (value, _, _) in ASSUMED.items()},
        "a_scan": per_scan,
        "spread_of_time": None if spread is None else float(spread.std() / spread.mean()),
        "dispatch": dispatch,
        "limits": limits(per_scan, dispatch),
        "courses": courses(per_scan, dispatch, spread),
        "gradient_bytes": parameter_count(UNet(RECIPES["classic"].unet)) * 4,
    }


def limits(scan: Mapping[str, Any], dispatch: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Cases a second that each part could do at most, for slicing."""
    each = scan["core_s"]["slice"] + scan["moved_s"]["slice"] + (dispatch["latency_s"] or 0.0)
    shared = {
        "one prefix of an object store (writes)": assumed("puts_prefix_s") / scan["objects_written"]["slice"],
        "the network of the store": assumed("store_bytes_s") / (scan["bytes_read"] + scan["bytes_written"]["slice"]),
    }
    if dispatch["hand_over_s"]:
        shared["the command and the scheduler"] = 1 / dispatch["hand_over_s"]
    return {str(workers): {"the workers": workers / each, **shared} for workers in WORKERS}


def courses(
    scan: Mapping[str, Any], dispatch: Mapping[str, Any], spread: np.ndarray | None
) -> dict[str, list[dict[str, float]]]:
    """Simulations of slicing all scans: on a file system, and with all results in one prefix of an object store."""
    if spread is None or not dispatch["latency_s"]:
        return {}
    rng = np.random.default_rng(0)
    sigma = assumed("slices_sigma")
    size = rng.lognormal(-(sigma**2) / 2, sigma, SCANS)  # a mean of 1
    time = size * (scan["core_s"]["slice"] * rng.choice(spread / spread.mean(), SCANS) + scan["moved_s"]["slice"])
    slow = rng.random(SCANS) < assumed("stragglers")
    time[slow] *= assumed("straggler_times")
    network = (scan["bytes_read"] + scan["bytes_written"]["slice"]) / assumed("store_bytes_s")
    prefix = scan["objects_written"]["slice"] / assumed("puts_prefix_s")
    found: dict[str, list[dict[str, float]]] = {}
    for way, store_s in {"a file system": network, "one prefix of a store": max(network, prefix)}.items():
        for workers in (10, 30, 100, 300, 1000):
            cluster = Cluster(
                workers,
                dispatch["hand_over_s"],
                dispatch["latency_s"],
                assumed("failures_a_day"),
                assumed("away_s"),
                store_s,
            )
            course = simulate(time, cluster)
            hours = course.seconds / 3600
            found.setdefault(way, []).append(
                {"workers": workers, "hours": hours, "busy": course.busy, "tail_s": course.tail_s, "died": course.died}
            )
            print(f"{way}, {workers} workers: {hours:.2f} h, {course.busy:.1%} busy", flush=True)
    return found


def main() -> int:
    done = work_out()
    write_json(RESULTS / "scaling.json", done)
    between(DOCUMENT, "scaling cost", cost_table(done))
    between(DOCUMENT, "scaling limits", limit_table(done) + "\n" + gradient_line(done))
    between(DOCUMENT, "scaling simulation", course_table(done))
    between(DOCUMENT, "scaling sources", source_table(done))
    if done["courses"]:
        plot(done)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What scaling.py starts from: results of the benchmarks, what is published, and what is assumed."""

from __future__ import annotations

from typing import Any

from figures import RESULTS

from lungseg.records import read_json

NOT_YET = "not measured yet"
SCANS = 100_000
WORKERS = (10, 100, 1000)
PLANE, MVOX = 512 * 512, 1e6
# Published: 17,657 slices in the 63 labelled scans of Task06_Lung (data/README.md), 32 test scans in the archive.
SLICES, LABELLED, IN_ARCHIVE = 17_657, 63, 95
# Assumed: each with a name, a value and why, and shown in the document.
ASSUMED: dict[str, tuple[float, str, str]] = {
    "slices_sigma": (0.35, "", "spread of slices a scan: log-normal, this standard deviation of the logarithm"),
    "stragglers": (0.01, "", "share of cases that take ten times as long (a busy disk, a neighbour on the machine)"),
    "straggler_times": (10.0, "", "times as long that these take"),
    "failures_a_day": (0.01, "", "chance of a worker to die within a day"),
    "away_s": (600.0, "s", "until a worker that died is replaced"),
    "worker_bytes_s": (100e6, "bytes/s", "that a worker reads and writes over the network"),
    "put_s": (0.03, "s", "a request to an object store, 64 at once"),
    "puts_prefix_s": (3500.0, "requests/s", "writes that one prefix of S3 takes (published by AWS)"),
    "store_bytes_s": (12.5e9, "bytes/s", "of the whole network to the store or file server: 100 Gbit/s"),
    "core_hour": (0.04, "USD", "an hour of a core"),
    "gpu_hour": (3.00, "USD", "an hour of a GPU of the H100's kind"),
    "put_1000": (0.005, "USD", "1,000 writes to an object store"),
    "get_1000": (0.0004, "USD", "1,000 reads from it"),
    "gb_month": (0.023, "USD", "a month of 1 GB in it; reading within its region is free"),
    "rank_bytes_s": (3.125e9, "bytes/s", "between two hosts that train together: 25 Gbit/s"),
}
AT_ONCE = 64


def assumed(name: str) -> float:
    return ASSUMED[name][0]


def results(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.is_file() else {}

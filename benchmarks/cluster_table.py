"""The table of docs/clusters.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from figures import RESULTS, _table
from speed_tables import between, places

from lungseg.records import read_json

RESULT = RESULTS / "cluster.json"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "clusters.md"


def write() -> None:
    """Put the table between its markers in docs/clusters.md."""
    content = read_json(RESULT)
    runs = content["runs"]
    labels = {
        "plain": "nothing goes wrong",
        "killed": "a worker is killed (SIGKILL), and not replaced",
        "restarted": "the scheduler is killed and started again, its workers too",
        "poison": "one scan kills every worker that opens it",
        "hosts": "scheduler and workers on hosts of their own (network namespaces)",
    }
    rows = [(label, _said(name, runs.get(name))) for name, label in labels.items()]
    rate, cost = runs.get("throughput"), runs.get("overhead")
    fast = slow = "not measured yet"
    if rate is not None:
        fast = f"{rate['ratio']} ({rate['ratio_range'][0]} to {rate['ratio_range'][1]})"
    if cost is not None:
        slow = f"{cost['ms_quickest']} ms (median {cost['ms_median']} ms)"
    rows.append(("2 workers against 1, times as fast: median of rounds in turns (range)", fast))
    rows.append(("what the cluster adds to a case, quickest round", slow))
    dates = sorted({run["date"] for run in runs.values()})
    facts = content["machine"]
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    where = f"{facts['cores']} cores of {places({name: run['cpu'] for name, run in runs.items()})}"
    note = f"\nMeasured {when} on {where}, by `make bench-cluster`. {content['what']}."
    if rate is not None:
        others = [100 * share for share in rate.get("share_of_others", [])]
        note += f" Load {rate['load_before']} before the throughput"
        note += f"; other programs took {min(others):.0f} to {max(others):.0f} % of its CPU time." if others else "."
    between(DOCUMENT, "cluster", _table(("run", "result"), rows) + note + "\n")


def _said(name: str, run: dict[str, Any] | None) -> str:
    if run is None or "skipped" in run:
        return "not measured yet"
    text = "same bytes as one machine" if run["same_bytes"] else "OTHER BYTES than one machine"
    if name == "poison":
        text += f"; {', '.join(run['set_aside'])} set aside after {run['workers_killed']} workers"
    return text

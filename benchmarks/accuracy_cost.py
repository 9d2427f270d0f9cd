"""What each ingredient of `strong` costs: a slice in training and in prediction, against `strong` in the same run.

    python benchmarks/accuracy_cost.py [--device cpu] [--rounds 3] [--seconds 5] [--rows NAME ...]
    python benchmarks/accuracy_cost.py write     the table again

The rows are those of ablation.py, each timed by what ``reproduce`` estimates with (:mod:`lungseg.probe`), in turns:
whole training steps, the whole slices at a run's end counted in; predictions with all views of the recipe.  Ratios of
medians, with the smallest and largest of the rounds.  Writes `benchmarks/results/accuracy_cost.json` and the table of
docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation import rows
from accuracy_peers import machine_facts
from accuracy_tables import PAGE, where
from speed_tables import between as write_between

from lungseg.probe import probe
from lungseg.records import write_json

RESULT = Path(__file__).resolve().parent / "results" / "accuracy_cost.json"
ROWS = (
    "skips concatenated",
    "another zoom in prediction",
    "no mirror image in prediction",
    "no deep supervision",
)


def measured(names: Sequence[str], device: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Everything that the table says; seconds a slice of each round."""
    recipes = rows({})
    found: dict[str, dict[str, Any]] = {name: {"train_s": [], "predict_s": []} for name in ("strong", *names)}
    for _ in range(rounds):
        for name, values in found.items():
            rates = probe(recipes[name], device, seconds=seconds)
            values["parameters"] = rates.parameters
            values["train_s"].append(rates.train_s / recipes[name].batch_size)
            values["predict_s"].append(rates.forward_s)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine_facts(device, 1),
        "rounds": rounds,
        "rows": found,
    }


def write(values: Mapping[str, Any]) -> None:
    """The table between its markers in docs/accuracy.md."""
    base = values["rows"]["strong"]
    lines = [
        "| row | parameters | a slice in training, times `strong` | a slice in prediction, times `strong` |",
        "| --- | --- | --- | --- |",
        f"| `strong` | {base['parameters']:,} | 1 | 1 |",
    ]
    for name, row in values["rows"].items():
        if name != "strong":
            ratios = (_ratio(row[key], base[key]) for key in ("train_s", "predict_s"))
            lines.append(f"| `{name}` | {row['parameters']:,} | {' | '.join(ratios)} |")
    source = (
        f"Measured {values['date']} on {where(values['machine'])}, torch {values['machine'].get('torch')}: medians of "
    )
    write_between(PAGE, "accuracy_cost", "\n".join([*lines, "", f"{source}{values['rounds']} rounds in turns."]) + "\n")


def _ratio(row: Sequence[float], base: Sequence[float]) -> str:
    each = [one / other for one, other in zip(row, base, strict=True)]
    return f"{statistics.median(row) / statistics.median(base):.2f} ({min(each):.2f} to {max(each):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("measure", "write"), default="measure")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each timing")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=sorted(set(rows({})) - {"strong"}))
    args = parser.parse_args()
    if args.what == "measure":
        write_json(RESULT, measured(args.rows, args.device, args.rounds, args.seconds))
    write(json.loads(RESULT.read_text("utf-8")))


if __name__ == "__main__":
    main()

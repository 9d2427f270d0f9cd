"""Are the probabilities of a recipe what they say: before and after temperature scaling, out of fold.

    python benchmarks/accuracy_calibration.py PROCESSED RUNS
    python benchmarks/accuracy_calibration.py write     the table again

RUNS is what ablation.py leaves of one row (``OUT/runs/strong``, with its records in ``OUT/strong``):
``fold<k>-seed<s>/levels.npz`` with the held-out patients' probabilities in 255ths.  Only pixels with 0.05 < p < 0.95
count: all others are easily called, and would make any error small.  Each fold is scaled by the temperature that fits
the other folds best.  Writes `benchmarks/results/accuracy_calibration.json` and the table of docs/accuracy.md.

Research only, not a medical device, not for clinical use.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_score import read_records
from accuracy_tables import PAGE, where
from speed_tables import between as write_between

from lungseg.calibration import LogitHistogram, expected_calibration_error, fit_temperature, total
from lungseg.case_record import mask_name
from lungseg.manifest import Manifest
from lungseg.records import write_json
from lungseg.slice_file import read_slice

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "accuracy_calibration.json"
UNSURE = (0.05, 0.95)


def unsure_pixels(levels: Path, manifest: Manifest) -> LogitHistogram:
    """The histogram of a fold's pixels between the two probabilities.

    Args:
        levels: ``levels.npz``, of each patient ``uint8 [n, H, W]``.
        manifest: of the preprocessed folder, for the masks.
    """
    size, found = manifest.config.size, []
    with np.load(levels, allow_pickle=False) as kept:
        for case in kept.files:
            probability = kept[case].astype(np.float64) / 255.0
            slices = manifest.record(case).slices
            truth = np.stack([read_slice(manifest.root / case / mask_name(z), np.uint8, size) for z in slices])
            chosen = (probability > UNSURE[0]) & (probability < UNSURE[1])
            found.append(LogitHistogram.of(probability[chosen], truth.reshape(probability.shape)[chosen]))
    return total(found)


def nested(folds: Mapping[int, LogitHistogram]) -> dict[str, Any]:
    """Calibration error of all folds together, as they are, and each scaled by what the others say."""
    temperatures = {fold: fit_temperature(total([folds[k] for k in folds if k != fold])) for fold in folds}
    plain, scaled = total(list(folds.values())), total([folds[k].scaled(temperatures[k]) for k in folds])
    return {
        "pixels": plain.pixels,
        "tumour_pixels": plain.tumour_pixels,
        "ece_before": expected_calibration_error(plain),
        "ece_after": expected_calibration_error(scaled),
        "temperatures": {str(fold): round(value, 4) for fold, value in temperatures.items()},
    }


def table(values: Mapping[str, Any]) -> str:
    """The table of docs/accuracy.md."""
    share = values["tumour_pixels"] / values["pixels"]
    rows = [("expected calibration error as it is", f"{values['ece_before']:.3f}"),
            ("after temperature scaling", f"{values['ece_after']:.3f}"),
            ("temperature that the other folds give", ", ".join(f"{t:.2f}" for t in values["temperatures"].values())),
            ("pixels; of them tumour", f"{values['pixels']:,}; {share:.0%}")]  # fmt: skip
    lines = "".join(f"| {name} | {found} |\n" for name, found in rows)
    source = (f"\nMeasured {values['date']} on {values['patients']} held-out patients of the slice sets; trained "
              f"{values['minutes']:.0f} minutes a fold, {values['machine'].get('folds_side_by_side', 1)} at a time, on "
              f"{where(values['machine'])}.\n")  # fmt: skip
    return f"| `{values['row']}`, pixels with 0.05 < p < 0.95 | out of fold |\n| --- | --- |\n{lines}{source}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("processed", type=Path, metavar="PROCESSED | write")
    parser.add_argument("runs", type=Path, nargs="?")
    args = parser.parse_args()
    if args.runs is None:
        if str(args.processed) != "write":
            parser.error("name RUNS as well, or only write")
        write_between(PAGE, "accuracy_calibration", table(json.loads(RESULT.read_text("utf-8"))))
        return
    manifest, folds = Manifest.read(args.processed), dict[int, LogitHistogram]()
    records = [record for record in read_records([args.runs.parents[1]]) if record.system == args.runs.name]
    for record in records:
        levels = args.runs / f"fold{record.fold}-seed{record.seed}" / "levels.npz"
        folds[record.fold] = folds.get(record.fold, LogitHistogram()) + unsure_pixels(levels, manifest)
    if len(folds) < 2:
        raise SystemExit(f"{args.runs} has records of fewer than two folds: there is nothing to fit a temperature on")
    found = nested(folds)
    minutes = sum(record.seconds["train"] for record in records) / len(records) / 60
    facts = {
        "date": datetime.date.today().isoformat(),
        "row": args.runs.name,
        "patients": len({case.case for record in records for case in record.cases}),
        "minutes": round(minutes, 2),
        "machine": dict(records[0].machine),
        "recipe": records[0].settings["recipe"],
    }
    write_json(RESULT, facts | found)
    print(json.dumps(found))
    write_between(PAGE, "accuracy_calibration", table(facts | found))


if __name__ == "__main__":
    main()

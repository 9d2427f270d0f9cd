"""Stacks on which neighbouring slices can be judged: of each patient the longest run of slices that all show tumour.

    python benchmarks/accuracy_neighbours.py PROCESSED SLICES_CSV OUT
    python benchmarks/ablation.py OUT SPLITS RUNS --rows strong "with neighbours" ...

In the sets of slices a slice without tumour has no true neighbour, so a network could tell such slices by their gaps.
Here every slice shows tumour and is followed by the next of its scan, whose place and thickness SLICES_CSV (columns
``case``, ``slice``, ``slice_mm``) tells; ``ablation.py`` scores only those that have both neighbours.  What comes out
says how much neighbours help to outline a tumour, and nothing about slices without any.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from lungseg.case_record import CaseRecord
from lungseg.manifest import Manifest
from lungseg.neighbours import Neighbours


def longest_run(record: CaseRecord, places: list[int]) -> list[int]:
    """Positions in ``record.slices`` of the longest run of slices with tumour that follow each other in the scan.

    Args:
        record: of a labelled case.
        places: true place of each of its slices in the scan.
    """
    if len(places) != len(record.slices):
        raise SystemExit(f"{len(places)} places for {len(record.slices)} slices: the table is of another set")
    shown = [index for index, count in enumerate(record.tumour_pixels) if count]
    runs = groupby(enumerate(shown), key=lambda numbered: places[numbered[1]] - numbered[0])
    return max(([index for _, index in run] for _, run in runs), key=len, default=[])


def make(processed: Path, table: Path, out: Path) -> None:
    """Write the stacks; their files are copies, and stay what the manifest says of them."""
    manifest = Manifest.read(processed)
    places: dict[str, list[int]] = {}
    slice_mm: dict[str, float] = {}
    with open(table, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            places.setdefault(row["case"], []).append(int(row["slice"]))
            slice_mm[row["case"]] = float(row["slice_mm"])
    records = {}
    for case in manifest.labelled:
        record = manifest.record(case)
        run = longest_run(record, places[case])
        if len(run) <= 2 * Neighbours(1).steps(slice_mm[case])[-1]:
            print(f"{case}: left out, {len(run)} slices of {slice_mm[case]:g} mm in a row")
            continue
        records[case] = replace(
            record,
            slices=tuple(record.slices[index] for index in run),
            tumour_pixels=tuple(record.tumour_pixels[index] for index in run),
            las_spacing_mm=(*record.las_spacing_mm[:2], slice_mm[case]),
        )
        shutil.copytree(processed / case, out / case)
    Manifest(out, manifest.config, records).write()
    print(f"{len(records)} patients, {sum(len(record.slices) for record in records.values())} slices")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("processed", "table", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    make(args.processed, args.table, args.out)


if __name__ == "__main__":
    main()

"""Whole CTs under the mean of a recipe's folds, at 0.5 and at the settings that the held-out patients choose.

    python benchmarks/accuracy_volumes.py RUNS VOLUMES [--device cpu]
    python benchmarks/accuracy_volumes.py write     the table again

RUNS is what ablation.py leaves of one row (``OUT/runs/strong``): a run for each fold and seed, and its counts at every
setting.  VOLUMES is a tree whose labelled scans are none of the patients that were trained on.  Nothing below the lungs
is looked at.  Writes `benchmarks/results/accuracy_volumes.json` and the table of docs/accuracy.md.

Research only, not a medical device, not for clinical use.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import accuracy_settings
import numpy as np
from accuracy_peers import machine_facts
from accuracy_tables import PAGE, where
from speed_tables import between as write_between

from lungseg.case_score import score_case
from lungseg.ensemble import Ensemble
from lungseg.geometry import SliceGrid, to_las
from lungseg.inference import MaskVolume, Segmenter
from lungseg.nifti import read_label, read_scan
from lungseg.postprocess import PLAIN, PostProcessing, drop_components
from lungseg.records import write_json
from lungseg.slicing import skipped_slices, slice_image
from lungseg.splits import Split
from lungseg.tree import Case, read_tree
from lungseg.tuning import choose

RESULT = Path(__file__).resolve().parent / "results" / "accuracy_volumes.json"


def best_setting(runs: list[Path]) -> PostProcessing:
    """The one of the highest mean Dice over the held-out patients of all folds."""
    return choose(case for run in runs for case in accuracy_settings.read(run / accuracy_settings.FILE))


def scored(ensemble: Ensemble, case: Case, settings: tuple[PostProcessing, ...]) -> list[dict[str, Any]]:
    """What is found of a labelled scan at each setting."""
    scan, label = read_scan(case.image), read_label(case.label)
    las, affine, _ = to_las(scan.voxels, scan.affine)
    truth, _, _ = to_las(label.voxels, label.affine)
    left, front, head = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    config = replace(ensemble.config, skip_slices="auto")
    shown = range(skipped_slices(las, (left, front, head), config), las.shape[2])
    grid = SliceGrid.of(las.shape, (left, front, head), config.size)
    volumes = [MaskVolume(las.shape, grid, setting.threshold) for setting in settings]
    found = ensemble.probabilities((slice_image(las, z, grid, config) for z in shown), shown, head)
    for z, probability in zip(shown, found, strict=True):
        for volume in volumes:
            volume.put(z, probability)
    for volume, setting in zip(volumes, settings, strict=True):
        drop_components(volume.mask, volume.probability, setting, left * front * head / 1000.0)
    scores = (score_case(case.name, truth, volume.mask, (left, front, head)) for volume in volumes)
    names = ("dice", "truth_ml", "predicted_ml", "lesions", "lesions_found", "false_positives", "false_slices")
    return [{name: score.as_dict()[name] for name in names} for score in scores]


def measured(folder: Path, volumes: Path, device: str) -> dict[str, Any]:
    """Everything that the table says."""
    runs = sorted(path.parent for path in folder.glob(f"fold*/{accuracy_settings.FILE}"))
    if not runs:
        raise SystemExit(f"there is no fold*/{accuracy_settings.FILE} in {folder}; ablation.py writes them")
    members = tuple(Segmenter.load(run / "run", checkpoint="last", device=device) for run in runs)
    cases = [case for case in read_tree(volumes).cases if case.label]
    seen = {case for run in runs for case in Split.read(run / "run" / "splits.json").train}
    if both := seen & {case.name for case in cases}:
        raise SystemExit(f"{', '.join(sorted(both))} were trained on: nothing can be said of them")
    best = best_setting(runs)
    settings = (PLAIN, replace(best, smallest_share=0.0), best)
    ensemble = Ensemble(members, members[0].config, {})
    return {
        "date": datetime.date.today().isoformat(),
        "recipe": folder.name,
        "folds": len(runs),
        "machine": machine_facts(device, 1),
        "settings": [{"threshold": one.threshold, "smallest_share": one.smallest_share} for one in settings],
        "scans": {case.name: scored(ensemble, case, settings) for case in cases},
    }


def write(values: Mapping[str, Any]) -> None:
    """The table between its markers in docs/accuracy.md."""
    head = "| scan | threshold | smallest share | Dice | true / found ml | lesions found | false | false slices |\n"
    rows = [
        f"| `{case}` | {setting['threshold']:g} | {setting['smallest_share']:g} | {one['dice']:.2f} "
        f"| {one['truth_ml']:.1f} / {one['predicted_ml']:.1f} | {one['lesions_found']} of {one['lesions']} "
        f"| {one['false_positives']} | {one['false_slices']} |\n"
        for case, found in values["scans"].items()
        for setting, one in zip(values["settings"], found, strict=True)
    ]
    what = f"the mean of {values['folds']} folds of `{values['recipe']}`"
    source = f"Measured {values['date']} on {where(values['machine'])}: {what}."
    write_between(PAGE, "accuracy_volumes", f"{head}{'| --- ' * 8}|\n{''.join(rows)}\n{source}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("volumes", type=Path, nargs="?")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.volumes is not None:
        write_json(RESULT, measured(args.runs, args.volumes, args.device))
    elif str(args.runs) != "write":
        parser.error("name the tree of whole scans too")
    write(json.loads(RESULT.read_text("utf-8")))


if __name__ == "__main__":
    main()

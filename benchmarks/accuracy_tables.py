"""The table of accuracy: every system patient by patient, from the files that accuracy_score.py describes.

    python benchmarks/accuracy_tables.py collect FOLDER [FOLDER ...] [--reference strong]
    python benchmarks/accuracy_tables.py ablation FOLDER [FOLDER ...] [--reference strong] [--study NAME]
    python benchmarks/accuracy_tables.py cpu FOLDER [FOLDER ...]
    python benchmarks/accuracy_tables.py write

`collect` reads ``FOLDER/SYSTEM/fold*.json``, writes `benchmarks/results/accuracy_gpu.json` and the tables of
docs/accuracy.md; `ablation` does the same with the rows of ablation.py, `benchmarks/results/ablation.json` and their
table, where the reference is called `base`; `cpu` the same with systems that were trained on a CPU,
`benchmarks/results/accuracy_cpu.json`, whose table stands in README.md too; `write` writes only the tables again.
Several studies of ingredients are kept, each with its table (``STUDIES``).  Each system is also scored at the settings
that the other folds choose, where ablation.py left counts (accuracy_settings.py).  What is compared is compared on the
patients that both have, so on the same folds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_score import FoldRecord, read_records
from accuracy_settings import ENDING, chosen_elsewhere
from speed_tables import between as write_between

from lungseg.comparison import compare
from lungseg.other_scores import OtherScores
from lungseg.records import write_json
from lungseg.statistics import bootstrap_interval

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "accuracy_gpu.json"
ON_CPU = HERE / "results" / "accuracy_cpu.json"
# Studies of ingredients, by what follows `ablation` in the names of file and table.
STUDIES = ("", "_24_epochs", "_cpu", "_views")
BEFORE = HERE / "results" / "accuracy_cpu_before.json"  # `strong` as it was, on a quicker processor
PAGE = HERE.parent / "docs" / "accuracy.md"
README = HERE.parent / "README.md"
# Rows that the table has in any case, in this order; others follow by name.
EXPECTED = ("recipe", "classic", "nnunet_5epochs", "nnunet_5epochs_unmirrored", "strong")
LIMITS = (
    "84 % of the slices show tumour (10 % of whole scans do), so false positives hardly count and Dice is higher than "
    "on whole scans; HU were put back from 8 bits; the stacks have gaps"
)


def per_patient(records: Sequence[FoldRecord]) -> dict[str, float]:
    """Dice of each patient of one system; over several seeds it is their mean."""
    return _mean_by_case((case.case, case.dice) for record in records for case in record.cases)


def smallest_quarter(truth_pixels: Mapping[str, int]) -> list[str]:
    """Patients with the smallest tumours: the quarter of all by rank, rounded up, by tumour pixels of the label."""
    ranked = sorted(truth_pixels, key=lambda case: (truth_pixels[case], case))
    return ranked[: math.ceil(len(ranked) / 4)]


def summary_of(records: Sequence[FoldRecord], small: Sequence[str]) -> dict[str, Any]:
    """Figures of one system.

    Args:
        records: all folds and seeds of it.
        small: patients of the smallest quarter, of all that any system has.
    """
    dice = per_patient(records)
    seeds = sorted({record.seed for record in records})
    missed = _mean_by_case((case.case, float(case.missed)) for record in records for case in record.cases)
    minutes = [record.seconds["total"] / 60 for record in records]
    return {
        "patients": len(dice), "folds": sorted({record.fold for record in records}), "seeds": seeds,
        **_figures(dice), "missed": round(sum(missed.values()), 2),
        "smallest_quarter": _figures({case: dice[case] for case in small if case in dice}),
        "minutes_a_fold": round(sum(minutes) / len(minutes), 2),
        "training_minutes_a_fold": round(sum(record.seconds["train"] for record in records) / 60 / len(records), 2),
        "devices": sorted({str(record.machine.get("gpu") or record.machine.get("cpu")) for record in records}),
        "folds_side_by_side": sorted({record.machine.get("folds_side_by_side", 1) for record in records}),
        "epochs": sorted({epochs for record in records if (epochs := record.settings.get("epochs")) is not None}),
        "settings": dict(records[0].settings),
    }  # fmt: skip


def difference(
    name: str, dice: Mapping[str, float], other: str, other_dice: Mapping[str, float], small: Sequence[str]
) -> dict[str, Any] | None:
    """Paired difference of two systems, of all patients that both have and of the smallest; None without any."""
    if not set(dice) & set(other_dice):
        return None

    def paired(cases: Iterable[str]) -> dict[str, Any] | None:
        shared = sorted(set(cases) & set(dice) & set(other_dice))
        if not shared:
            return None
        found = compare({case: dice[case] for case in shared},
                        OtherScores(other, "dice", {case: other_dice[case] for case in shared}))  # fmt: skip
        values = found.as_dict()
        names = ("patients", "mean", "mean_other", "difference", "interval", "p", "better", "worse", "equal")
        return {key: values[key] for key in names}

    return {"system": name, "minus": other, "all": paired(dice), "smallest_quarter": paired(small)}


def collect(folders: Sequence[Path], reference: str) -> dict[str, Any]:
    """Everything that the tables say, from the files of all folds.

    Args:
        folders: with ``SYSTEM/fold*.json``.
        reference: the system that the others are compared with.
    """
    records = read_records(folders)
    records += chosen_elsewhere(folders, records)
    if not records:
        raise SystemExit(f"there is no SYSTEM/fold*.json below {', '.join(map(str, folders))}")
    systems: dict[str, list[FoldRecord]] = {}
    for record in records:
        systems.setdefault(record.system, []).append(record)
    truth = {case.case: case.truth_pixels for record in records for case in record.cases}
    small = smallest_quarter(truth)
    dice = {name: per_patient(found) for name, found in systems.items()}
    base = reference if reference in systems else ""
    return {
        "date": datetime.date.today().isoformat(),
        "what": f"{len(truth)} patients of Task06_Lung as sets of slices, nnU-Net's folds",
        "limits": LIMITS,
        "reference": base,
        "machine": dict(records[0].machine),
        "smallest_quarter": small,
        "systems": {name: summary_of(found, small) for name, found in systems.items()},
        "differences": [
            found for name in systems if base and name != base
            and (found := difference(base, dice[base], name, dice[name], small)) is not None
        ],
        "cases": [
            {"case": case, "truth_pixels": truth[case],
             **{name: round(scores[case], 6) for name, scores in dice.items() if case in scores}}
            for case in sorted(truth)
        ],
    }  # fmt: skip


def tables(values: Mapping[str, Any], studies: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, str]:
    """The marked tables of docs/accuracy.md by name; rows without a measurement say so.

    Args:
        values: of :func:`collect`, of whole systems.
        studies: the same of the rows of ablation.py, by the name of the table.
    """
    found: Mapping[str, Any] = values.get("systems", {})
    main = [*EXPECTED, *sorted(name for name in found if name not in EXPECTED)]
    reference = values.get("reference") or "strong"
    apart = {entry["system"] if entry["system"] != reference else entry["minus"]: entry
             for entry in values.get("differences", [])}  # fmt: skip
    source = _source(values)
    return {
        "accuracy_systems": _system_rows(main, found) + source,
        "accuracy_differences": _difference_rows(
            [name for name in main if name != reference], apart, f"`{reference}` minus") + source,
        **{name: _ingredient_rows(found) + _source(found) for name, found in (studies or {}).items()},
    }  # fmt: skip


def write() -> None:
    """Put the tables between their markers in docs/accuracy.md, and the one of CPUs in README.md as well."""
    values = _read(RESULT)
    made = tables(values, {f"accuracy_ablation{study}": _read(study_file(study)) for study in STUDIES})
    on_cpu, before = _read(ON_CPU), _read(BEFORE)
    made["accuracy_cpu"] = _on_cpu_rows(on_cpu)
    made["accuracy_cpu_before"] = f"{_on_cpu_rows(before)}\n{_since(on_cpu, before)}"
    for name, content in made.items():
        write_between(PAGE, name, content)
    write_between(README, "accuracy_cpu", made["accuracy_cpu"])
    print(f"wrote docs/{PAGE.name} and {README.name}")


def _on_cpu_rows(values: Mapping[str, Any]) -> str:
    found = values.get("systems", {})
    return _system_rows(sorted(found), found) + _source(values)


def _since(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """What `strong` on a CPU is now minus what it was, patient by patient: at 0.5, and with what other folds choose."""
    apart: dict[str, dict[str, Any] | None] = {}
    for name, was in (("strong", "strong"), (f"strong{ENDING}", "strong, threshold of the other folds")):
        dice, other = ({case["case"]: case[key] for case in values.get("cases", ()) if key in case}
                       for values, key in ((now, name), (before, was)))  # fmt: skip
        apart[was] = difference(name, dice, was, other, now.get("smallest_quarter", ()))
    return _difference_rows(list(apart), apart, "`strong` as it is now, minus what it was:")


def study_file(study: str) -> Path:
    """Where a study of ingredients is kept."""
    return HERE / "results" / f"ablation{study}.json"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _system_rows(names: Sequence[str], found: Mapping[str, Any]) -> str:
    rows = []
    for name in names:
        one = found.get(name)
        rows.append((f"`{name}`", *("not measured yet", "", "", "", "")) if one is None else (
            f"`{name}`", f"{_spread(one)}", _spread(one["smallest_quarter"]), f"{one['missed']:g} of {one['patients']}",
            f"{one['training_minutes_a_fold']:.1f} / {one['minutes_a_fold']:.1f}",
            f"{len(one['folds'])} folds, {len(one['seeds'])} seed{'s' if len(one['seeds']) > 1 else ''}{_epochs(one)}",
        ))  # fmt: skip
    head = ("system", "mean Dice of patients (95 % interval)", "smallest quarter of tumours", "missed",
            "minutes a fold, training / all", "measured on")  # fmt: skip
    return _table(head, rows)


def _epochs(one: Mapping[str, Any]) -> str:
    """``, 32 to 45 epochs``, where it is known of all folds."""
    epochs = one.get("epochs")
    if not epochs:
        return ""
    return f", {epochs[0]} to {epochs[-1]} epochs" if len(epochs) > 1 else f", {epochs[0]} epochs"


def _difference_rows(names: Sequence[str], apart: Mapping[str, Any], head: str) -> str:
    rows = []
    for name in names:
        entry = apart.get(name)
        if entry is None:
            rows.append((f"`{name}`", "not measured yet", "", "", ""))
            continue
        whole, small = entry["all"], entry["smallest_quarter"]
        rows.append((f"`{name}`", _signed(whole), _signed(small) if small else "", f"{whole['p']:.4f}",
                     f"{whole['better']} / {whole['worse']} of {whole['patients']}"))  # fmt: skip
    columns = (head, "difference in Dice (95 % interval)", "smallest quarter of tumours", "p", "better / worse")
    return _table(columns, rows)


def _ingredient_rows(values: Mapping[str, Any]) -> str:
    columns = ("row", "mean Dice of patients (95 % interval)", "the same patients: minus `base` (95 % interval)",
               "smallest quarter of tumours", "missed")  # fmt: skip
    if not values:
        return _table(columns, [("`base`", "not measured yet", "", "", "")])
    # An entry is the reference minus the row; here it is shown the other way round, what the change brings.
    brought = {entry["minus"]: entry["all"] for entry in values["differences"]}
    rows = []
    for name, one in sorted(values["systems"].items(), key=lambda item: (item[0] != values["reference"], item[0])):
        base = name == values["reference"]
        rows.append((f"`{'base' if base else name.replace('_', ' ')}`", _spread(one),
                     "" if base else _signed(_turned(brought[name])), _spread(one["smallest_quarter"]),
                     f"{one['missed']:g} of {one['patients']}"))  # fmt: skip
    return _table(columns, rows)


def _turned(values: Mapping[str, Any]) -> dict[str, Any]:
    """The difference the other way round."""
    ends = values["interval"]
    return {"difference": -values["difference"], "interval": [-ends[1], -ends[0]] if ends else None}


def _figures(dice: Mapping[str, float]) -> dict[str, Any]:
    sample = np.array([dice[case] for case in sorted(dice)], np.float64)
    interval = bootstrap_interval(sample) if sample.size else None
    return {
        "dice_mean": round(float(sample.mean()), 6) if sample.size else None,
        "dice_median": round(float(np.median(sample)), 6) if sample.size else None,
        "dice_interval": None if interval is None else [round(end, 6) for end in interval],
    }


def _spread(values: Mapping[str, Any]) -> str:
    if values["dice_mean"] is None:
        return ""
    low_high = values["dice_interval"]
    return f"{values['dice_mean']:.3f}" + (f" ({low_high[0]:.3f} to {low_high[1]:.3f})" if low_high else "")


def _signed(values: Mapping[str, Any]) -> str:
    low_high = values["interval"]
    return f"{values['difference']:+.3f}" + (f" ({low_high[0]:+.3f} to {low_high[1]:+.3f})" if low_high else "")


def _source(values: Mapping[str, Any]) -> str:
    if not values:
        return "\nNot measured yet; benchmarks/README.md has the commands.\n"
    facts = values["machine"]
    measured = f"Measured {values['date']} on {where(facts)}, torch {facts.get('torch')}"
    return f"\n{measured}: {values['what']}. Limits: {values['limits']}.\n"


def where(facts: Mapping[str, Any]) -> str:
    """The device of a record's ``machine`` in words."""
    return facts.get("gpu") or f"{facts.get('cores')} cores of {facts.get('cpu')}"


def _mean_by_case(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for case, value in pairs:
        found.setdefault(case, []).append(value)
    return {case: sum(values) / len(values) for case, values in sorted(found.items())}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("collect", "ablation", "cpu", "write"))
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--reference", default="strong", help="the system that the others are compared with")
    parser.add_argument("--study", choices=STUDIES, default=STUDIES[0], help="of `ablation`: which one is written")
    args = parser.parse_args()
    if args.what != "write":
        if not args.folders:
            parser.error("name the folders that hold SYSTEM/fold*.json")
        path = {"collect": RESULT, "cpu": ON_CPU, "ablation": study_file(args.study)}[args.what]
        path.parent.mkdir(exist_ok=True)
        write_json(path, collect(args.folders, args.reference))
    write()


if __name__ == "__main__":
    main()

"""What lungseg and other tools do with the same broken files: `make bench-faults`.

    python benchmarks/faults.py PEERS_PYTHON     run all tools, write results/faults.json and the tables
    python benchmarks/faults.py write            write the tables of docs/faults.md and README.md again

PEERS_PYTHON is the interpreter of an environment with the packages of benchmarks/peers.txt.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from faults_files import FAULTS, chest, write_case
from figures import README, RESULTS, machine

from lungseg.files import atomic_write
from lungseg.records import write_json
from lungseg.verify import verify

TOOLS = {"nibabel": "nibabel", "SimpleITK": "SimpleITK", "TorchIO": "torchio", "MONAI": "monai", "nnUNet": "nnunetv2"}
_ABSOLUTE = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+")  # folders of this machine, or of the one that built a tool
DOCS = README.parent / "docs" / "faults.md"
VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps([m.version(n) for n in sys.argv[1:]]))"


def measure(python: str) -> None:
    """Run every tool on every fault."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "expected.npy", chest())
        cases, results = [], []
        for number, fault in enumerate([None, *FAULTS]):
            image, label = write_case(fault, folder / f"{number:02d}")
            told = "sound" if fault is None else fault.name
            cases.append(
                {"name": told, "image": str(image), "label": str(label), "expected": str(folder / "expected.npy")}
            )
            results.append(
                {"row": 0 if fault is None else fault.row, "fault": told, "lungseg": _lungseg(folder / f"{number:02d}")}
            )
        (folder / "cases.json").write_text(json.dumps(cases))
        for tool in TOOLS:
            words = [python, str(Path(__file__).with_name("faults_tools.py")), tool, str(folder / "cases.json")]
            done = subprocess.run(words, capture_output=True, text=True)
            answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]
            if len(answers) != len(cases):
                raise SystemExit(f"{tool} ended early: {done.stderr[-2000:]}")
            for result, answer in zip(results, answers, strict=True):
                says = _ABSOLUTE.sub("", str(answer.get("says", "")))
                result[tool] = {
                    key: value for key, value in {**answer, "says": says}.items() if key != "case" and value != ""
                }
            print(
                f"{tool}: {[answer['outcome'] for answer in answers].count('silent')} silent of {len(answers)}",
                flush=True,
            )
    sound = results[0]
    wrong = [tool for tool in ("lungseg", *TOOLS) if sound[tool]["outcome"] not in ("silent", "warned")]
    if wrong:
        raise SystemExit(f"the sound case is refused by {', '.join(wrong)}: {sound}")
    versions = json.loads(
        subprocess.run([python, "-c", VERSIONS, *TOOLS.values()], capture_output=True, text=True, check=True).stdout
    )
    content = {
        "date": datetime.date.today().isoformat(),
        "what": "the same broken case, 160 x 150 x 60 voxels, read by each tool's usual way",
        "versions": dict(zip(TOOLS, versions, strict=True)),
        "results": results,
        "machine": machine(),
    }
    write_json(RESULTS / "faults.json", content)
    write()


def _lungseg(folder: Path) -> dict[str, Any]:
    """`lungseg verify`, in this process."""
    started = time.perf_counter()
    found = verify(folder / "tree", workers=1)
    outcome = "refused" if found.errors else "warned" if found.problems else "silent"
    says = f"{found.problems[0].code}: {found.problems[0]}" if found.problems else ""
    return {"outcome": outcome, "seconds": round(time.perf_counter() - started, 2), **({"says": says} if says else {})}


def _cell(result: dict[str, Any]) -> str:
    """One word, and for silence what it costs."""
    outcome = result["outcome"]
    if outcome == "crash":
        return f"**{'out of memory' if result.get('says') == 'MemoryError' else 'crash'}**"
    if "shape" in result:
        return f"{outcome}, shape {' x '.join(map(str, result['shape']))}"
    if wrong := result.get("wrong_voxels"):
        share = 100 * wrong / result["voxels"]
        return (
            f"{outcome}, {f'{share:.0f} % of voxels' if share >= 1 else f'{wrong:,} voxel' + 's' * (wrong > 1)} wrong"
        )
    return str(outcome)


def table(content: dict[str, Any]) -> str:
    """A row a fault, a column a tool."""
    head = ["row", "fault", "lungseg", *(f"{tool} {content['versions'][tool]}" for tool in TOOLS)]
    lines = [head, ["---"] * len(head)]
    for result in content["results"]:
        cells = [_cell(result[tool]) for tool in ("lungseg", *TOOLS)]
        lines.append([str(result["row"] or ""), result["fault"], *cells])
    facts = content["machine"]
    source = f"Run {content['date']} on {facts['cores']} cores of {facts['cpu']}, Python {facts['python']}"
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{source}, by `make bench-faults`.\n"


def summary(content: dict[str, Any]) -> str:
    """How often each tool said nothing, over the faults that can not be read as they are meant."""
    harmless = {fault.name for fault in FAULTS if fault.harmless}
    grave = [result for result in content["results"] if result["row"] and result["fault"] not in harmless]
    counts = {tool: [result[tool]["outcome"] for result in grave] for tool in ("lungseg", *TOOLS)}
    lines = [[f"of {len(grave)} broken cases", *counts], ["---"] * (len(counts) + 1)]
    for name, outcomes in (("refused", ("refused",)), ("warned of", ("warned",)), ("read without a word", ("silent",)),
                           ("crashed, hung, out of memory", ("crash",))):  # fmt: skip
        lines.append([name, *(str(sum(found.count(outcome) for outcome in outcomes)) for found in counts.values())])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{text}\nRun {content['date']} by `make bench-faults`; which and with which versions: docs/faults.md.\n"


def stress_table(content: dict[str, Any]) -> str:
    """A row a figure of results/stress.json."""
    lines = [["figure", "tried", "failed", "what must hold", "date"], ["---"] * 5]
    for name, figure in content["figures"].items():
        tried, failed = f"{figure['tried']:,}", str(len(figure["failures"]))
        lines.append([name.replace("_", " "), tried, failed, figure["goal"], figure["date"]])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    places: dict[str, set[str]] = {}
    for figure in content["figures"].values():
        facts = figure["machine"]
        places.setdefault(f"{facts['cores']} cores of {facts['cpu']}, torch {facts['torch']}", set()).add(
            figure["date"]
        )
    where = "; ".join(f"{place} ({', '.join(sorted(dates))})" for place, dates in places.items())
    return f"{text}\nBy `make stress` on {where}.\n"


def write() -> None:
    """Put the tables between their markers."""
    for path, name, result, make in (
        (DOCS, "tools", "faults", table),
        (DOCS, "stress", "stress", stress_table),
        (README, "faults", "faults", summary),
    ):
        source = RESULTS / f"{result}.json"
        if not source.is_file():
            continue
        text = path.read_text("utf-8")
        start, end = f"<!-- figures: {name} -->\n", f"<!-- end: {name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise SystemExit(f"{path.name} has no place for the figures of {name}")
        atomic_write(path, (before + start + make(json.loads(source.read_text())) + end + after).encode())
        print(f"wrote {name} into {path.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", metavar="PEERS_PYTHON|write")
    python = parser.parse_args().python
    write() if python == "write" else measure(python)


if __name__ == "__main__":
    sys.exit(main())

"""Run the notebooks on the sample, in order, and store what they show: ``make notebooks``.

    python notebooks/make.py [--work FOLDER] [NAME ...]

Stored notebooks hold no times of running, no paths of this machine and no traces of the tools that ran them, so that a
difference between two versions is a difference in what is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from traitlets.config import Config

from lungseg.files import atomic_write

HERE = Path(__file__).resolve().parent
NAMES = ("01_preprocess", "02_dataset", "03_train", "04_evaluate", "05_visualize")
MOST_BYTES = 300_000  # of a stored notebook
KERNEL = "python3"  # ipykernel's own, of the environment that runs this file
METADATA = ("kernelspec", "language_info")  # what is kept of a notebook's
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_METADATA = ("tags",)
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}


def run(name: str, parameters: Mapping[str, Any] | None = None, *, cwd: Path = HERE) -> NotebookNode:
    """Execute a notebook and return it with its outputs; its file is left as it is.

    Args:
        name: one of ``NAMES``.
        parameters: take the place of those in the cell tagged ``parameters``.
        cwd: the folder that relative paths of the notebook start from.

    Raises:
        papermill.PapermillExecutionError: a cell failed.
    """
    import papermill

    with tempfile.TemporaryDirectory() as scratch, _away_from_home(Path(scratch)):
        out = Path(scratch) / f"{name}.ipynb"
        papermill.execute_notebook(
            HERE / f"{name}.ipynb",
            out,
            dict(parameters or {}),
            kernel_name=KERNEL,
            cwd=cwd,
            progress_bar=False,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        )
        return nbformat.read(out, as_version=4)


@contextlib.contextmanager
def _away_from_home(folder: Path) -> Iterator[None]:
    """Have Jupyter and IPython keep their files in ``folder``; the kernel inherits it."""
    names = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(folder / name.lower()) for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def cleaned(notebook: NotebookNode, work: str | None = None) -> NotebookNode:
    """A notebook as it is stored: the cells as they were written, with their outputs.

    Args:
        notebook: as it was executed; changed in place.
        work: the folder that was given as the parameter ``work``; called ``work`` in the outputs.

    Raises:
        ValueError: an output names a path of this machine.
    """
    cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in cells:
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in CELL_METADATA if cell.metadata.get(key)})
        if cell.cell_type == "code":
            cell.outputs = _stored(cell.outputs)
            for output in cell.outputs:
                _check(output, work, cell.id)
    for number, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    notebook.cells = cells
    notebook.metadata = NotebookNode({key: notebook.metadata[key] for key in METADATA if key in notebook.metadata})
    # The exact Python is the machine's matter.
    notebook.metadata.language_info = NotebookNode(LANGUAGE)
    return notebook


def _stored(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs without progress lines, whose seconds differ, without widgets, each picture in its smallest form."""
    stored: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            print(output.text, end="", file=sys.stderr)
            continue
        if output.output_type == "stream" and stored and stored[-1].output_type == "stream":
            stored[-1].text += output.text  # how a stream is cut into pieces is chance
            continue
        if WIDGET in output.get("data", {}):
            continue  # it shows where the notebook runs; a static picture stands beside it
        pictures = sorted(
            (key for key in output.get("data", {}) if key.startswith("image/")), key=lambda key: len(output.data[key])
        )
        for key in pictures[1:]:
            del output.data[key]
        stored.append(output)
    return stored


def _check(output: NotebookNode, work: str | None, cell: str) -> None:
    """Call the work folder by its name, and refuse any other path of this machine."""
    texts = output if output.output_type == "stream" else output.get("data", {})
    for key in ("text", "text/plain", "text/html"):
        if key not in texts:
            continue
        if work:
            texts[key] = texts[key].replace(work, "work")
        for path in {str(HERE.parent), sys.prefix, str(Path.home()), tempfile.gettempdir()} - {"/"}:
            if path in texts[key]:
                raise ValueError(f"cell {cell}: the output names a path of this machine: {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks on the sample and store their outputs.")
    parser.add_argument("names", nargs="*", default=[], help="notebooks to run, such as 03_train; all of them without")
    parser.add_argument("--work", help="folder to work in (default: notebooks/work)")
    given = parser.parse_args()
    strangers = sorted(set(given.names) - set(NAMES))
    if strangers:
        parser.error(f"there is no notebook {', '.join(strangers)}; there are {', '.join(NAMES)}")
    parameters = {"work": str(Path(given.work).resolve())} if given.work else {}
    for name in [name for name in NAMES if name in given.names] or NAMES:
        started = time.monotonic()
        notebook = cleaned(run(name, parameters), parameters.get("work"))
        data = (nbformat.writes(notebook) + "\n").encode()
        if len(data) > MOST_BYTES:
            print(f"{name}: {len(data):,} bytes, more than {MOST_BYTES:,}: make its figures smaller", file=sys.stderr)
            return 1
        atomic_write(HERE / f"{name}.ipynb", data)
        print(f"{name}: {time.monotonic() - started:.0f} s, {len(data) / 1000:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

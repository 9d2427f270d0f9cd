"""The notebooks: what they may hold, that they run in order on a tiny sample, what they say where something lacks."""

from __future__ import annotations

import ast
import base64
import importlib.util
import io
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat import NotebookNode
from papermill import PapermillExecutionError
from PIL import Image

from lungseg.errors import NOTICE
from lungseg.manifest import Manifest
from lungseg.tree import read_tree

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
TINY = {
    "01_preprocess": {"cases": 5, "test_cases": 1, "shape": [64, 64, 24], "size": 64},
    "02_dataset": {},
    "03_train": {"epochs": 1, "minutes": 1.0},
    "04_evaluate": {},
    "05_visualize": {},
}
MOST_LINES, MOST_CELLS = 15, 25
MOST_COLUMNS = 120
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """``notebooks/make.py``, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("notebooks_make", NOTEBOOKS / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(name: str) -> NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook: NotebookNode) -> str:
    """What the cells printed."""
    outputs = (output for cell in code_cells(notebook) for output in cell.outputs)
    return "".join(output.text for output in outputs if output.output_type == "stream")


def pictures_of(notebook: NotebookNode) -> list[Image.Image]:
    outputs = (output for cell in code_cells(notebook) for output in cell.outputs)
    shown = (entry for output in outputs for entry in output.get("data", {}).items())
    data = (item for key, item in shown if key.startswith("image/") and key != "image/svg+xml")
    return [Image.open(io.BytesIO(base64.b64decode(item))) for item in data]


def python_of(cell: NotebookNode) -> str:
    """A cell without IPython's magics."""
    return "\n".join("" if line.startswith("%") else line for line in cell.source.splitlines())


def test_every_notebook_is_known(make: ModuleType) -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(make.NAMES) == list(TINY)


@pytest.mark.parametrize("name", TINY)
def test_cells_are_few_and_short_and_define_nothing(name: str) -> None:
    cells = code_cells(stored(name))
    assert len(cells) <= MOST_CELLS
    for cell in cells:
        lines = cell.source.splitlines()
        assert len(lines) <= MOST_LINES, cell.source
        assert all(len(line) <= MOST_COLUMNS for line in lines), cell.source
        kinds = {type(node) for node in ast.walk(ast.parse(python_of(cell)))}
        assert not kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef}, cell.source


@pytest.mark.parametrize("name", TINY)
def test_first_code_cell_holds_the_parameters(name: str) -> None:
    first, *others = code_cells(stored(name))
    assert first.metadata.get("tags") == ["parameters"]
    assert not any(cell.metadata for cell in others)
    names = {target.id for node in ast.parse(first.source).body for target in node.targets}
    assert {"source", "work"} | set(TINY[name]) <= names
    assert 'source = "sample"' in first.source and 'work = "work"' in first.source


@pytest.mark.parametrize("name", TINY)
def test_stored_outputs_are_whole_and_small(name: str, make: ModuleType) -> None:
    notebook = stored(name)
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size <= make.MOST_BYTES
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    kinds = {output.output_type for cell in code_cells(notebook) for output in cell.outputs}
    assert "stream" in kinds and "error" not in kinds
    assert pictures_of(notebook)


@pytest.mark.parametrize("name", TINY)
def test_nothing_stored_belongs_to_one_machine_or_moment(name: str) -> None:
    notebook = stored(name)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    text = (NOTEBOOKS / f"{name}.ipynb").read_text("utf-8")
    for path in (NOTEBOOKS.parent, Path.home(), sys.prefix, tempfile.gettempdir()):
        assert str(path) == "/" or f"{path}/" not in text
    assert not re.search(r" at 0x[0-9a-f]{6,}>|papermill|site-packages", text)
    assert WIDGET not in text and "widget-state" not in text


@pytest.mark.parametrize("name", TINY)
def test_says_what_it_is_and_what_it_is_not(name: str) -> None:
    notebook = stored(name)
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith(f"# {int(name[:2])}. ")
    assert NOTICE.rstrip(".") in first.source
    assert "**needs**" in first.source and "**makes**" in first.source
    assert NOTICE in text_of(notebook)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert re.search(r"\]\(https://", prose), "no link to a paper or standard"
    for target in re.findall(r"\]\(([\w.]+\.ipynb)\)", prose):
        assert (NOTEBOOKS / target).is_file()


def test_row_50_all_run_in_order_and_again(make: ModuleType, tmp_path: Path) -> None:
    cwd, work = tmp_path / "elsewhere", tmp_path / "work"
    cwd.mkdir()
    said = {}
    for name, parameters in TINY.items():
        done = make.cleaned(make.run(name, {"work": str(work), **parameters}, cwd=cwd), str(work))
        assert [cell.source for cell in done.cells] == [cell.source for cell in stored(name).cells]
        assert pictures_of(done)
        said[name] = text_of(done)

    folder = work / "sample"
    tree = read_tree(folder / "Task06_Lung")
    assert len(tree.cases) == 6 and not tree.problems
    assert len(Manifest.read(folder / "slices").labelled) == 5
    assert "6 of 6 cases were there already" in said["01_preprocess"]
    assert "7,781,761" in said["03_train"] and "finished before: True" in said["03_train"]
    assert (folder / "run" / "evaluation" / "summary.json").is_file()
    assert "the same as by evaluate: True" in said["04_evaluate"]
    assert {path.suffix for path in (folder / "predictions").glob("lung_006*")} == {".gz", ".json", ".html", ".gif"}
    assert not list(cwd.iterdir())

    # A finished run is returned as it is, not trained again.
    before = (folder / "run" / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    again = make.cleaned(make.run("03_train", {"work": str(work), **TINY["03_train"]}, cwd=cwd), str(work))
    assert (folder / "run" / "checkpoints" / "best.ckpt").stat().st_mtime_ns == before
    result = r"epochs in [\d.]+ minutes.*"
    assert re.findall(result, text_of(again)) == re.findall(result, said["03_train"])


@pytest.mark.parametrize(
    ("name", "parameters", "mend"),
    [
        ("01_preprocess", {"source": "task06", "data": "nowhere"}, "lungseg download"),
        ("03_train", {}, "Run 01_preprocess.ipynb first."),
        ("05_visualize", {}, "Run 03_train.ipynb first."),
    ],
)
def test_row_50_what_is_missing_is_said_in_one_sentence(
    make: ModuleType, tmp_path: Path, name: str, parameters: dict[str, str], mend: str
) -> None:
    with pytest.raises(PapermillExecutionError) as caught:
        make.run(name, {"work": str(tmp_path / "work"), **parameters}, cwd=tmp_path)
    assert caught.value.ename == "UsageError"
    assert mend in caught.value.evalue
    assert len(caught.value.traceback) == 1 and "\n" not in caught.value.traceback[0].strip()


def test_cleaning_drops_what_was_injected_and_renames_the_work_folder(make: ModuleType) -> None:
    v4 = nbformat.v4
    written = v4.new_code_cell("print(work)", metadata={"tags": ["parameters"], "papermill": {"duration": 1.5}})
    written.execution_count = 7
    stream, picture = v4.new_output("stream", name="stdout", text="/else/where/work/run\n"), {"image/png": "aaaa"}
    written.outputs = [
        stream,
        v4.new_output("stream", name="stderr", text="slicing: 3/3 cases in 2 s\n"),
        v4.new_output("stream", name="stdout", text="done\n"),
        v4.new_output("display_data", {**picture, "image/jpeg": "aa", "text/plain": "<Figure>"}),
        v4.new_output("display_data", {WIDGET: {"model_id": "abc"}, "text/plain": "NiiVue()"}),
    ]
    injected = v4.new_code_cell('work = "/else/where/work"', metadata={"tags": ["injected-parameters"]})
    notebook = v4.new_notebook(cells=[written, injected], metadata={"papermill": {"start_time": "now"}})
    cleaned = make.cleaned(notebook, "/else/where/work")
    (cell,) = cleaned.cells
    assert cell.metadata == {"tags": ["parameters"]} and cell.execution_count == 1
    assert [output.get("text") for output in cell.outputs] == ["work/run\ndone\n", None]
    assert set(cell.outputs[1].data) == {"image/jpeg", "text/plain"}
    assert "papermill" not in cleaned.metadata


def test_cleaning_refuses_paths_of_the_machine(make: ModuleType) -> None:
    cell = nbformat.v4.new_code_cell("x")
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{NOTEBOOKS.parent}/notebooks/work\n")]
    with pytest.raises(ValueError, match="a path of this machine"):
        make.cleaned(nbformat.v4.new_notebook(cells=[cell]))

"""Imports point one way: the table of docs/architecture.md is the order, and what is light stays light."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lungseg

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lungseg"
HEAVY = ("torch", "pytorch_lightning", "torchmetrics", "numpy", "scipy", "sklearn", "nibabel", "cv2", "cc3d", "imgaug",
         "matplotlib", "celluloid", "PIL", "isal", "kaggle")  # fmt: skip


def module_name(path: Path) -> str:
    """Name below ``lungseg``; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def table_rows() -> dict[str, int]:
    """Row of each module in the table of the architecture, counted from the top."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = text[text.index("| module |") :].split("\n\n")[0].splitlines()[2:]
    rows: dict[str, int] = {}
    for number, line in enumerate(lines):
        for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
            assert name not in rows, f"{name} stands twice in the table"
            rows[name] = number
    return rows


ROWS = table_rows()


def imports_of(tree: ast.AST, folder: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that is imported, wherever in the file.

    Args:
        tree: the parsed file.
        folder: packages that the file lies in, from the top (``("lungseg", "visualize")``).
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            start = ".".join((*base, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def home(dotted: str) -> str | None:
    """The module of the package that an imported name belongs to; None for the package itself and for others."""
    parts = dotted.split(".")
    if parts[0] != "lungseg":
        return None
    names = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
    return next((name for name in names if name in MODULES), None)


def package_imports(name: str) -> Iterator[tuple[int, str]]:
    path = MODULES[name]
    folder = ("lungseg", *path.parent.relative_to(PACKAGE).parts)
    for line, dotted in imports_of(ast.parse(path.read_text(encoding="utf-8")), folder):
        if (target := home(dotted)) is not None:
            yield line, target


def test_the_reader_of_imports_sees_every_form() -> None:
    source = (
        "import lungseg.files\nfrom lungseg import unet\nfrom . import train\nfrom ..config import RECIPES\n"
        "def f():\n    from .windows import to_grey\nfrom lungseg import __version__\nimport torch\n"
    )
    found = [home(dotted) for _, dotted in imports_of(ast.parse(source), ("lungseg", "visualize"))]
    # ast.walk goes by depth: what stands in the function comes last.
    assert found == ["files", "unet", "visualize", "config", None, None, "visualize.windows"]


def test_every_module_stands_in_the_table_and_every_entry_is_a_module() -> None:
    assert sorted(set(MODULES) - {""}) == sorted(ROWS)


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_imports_from_rows_above_or_its_own(name: str) -> None:
    wrong = [
        f"{MODULES[name].name}:{line} imports {target}, of a row below"
        for line, target in package_imports(name)
        if ROWS[target] > ROWS[name]
    ]
    assert not wrong


def test_nothing_imports_the_command_line() -> None:
    assert [name for name in MODULES if any(target == "cli" for _, target in package_imports(name))] == []


def test_the_package_itself_imports_nothing_when_it_is_imported() -> None:
    tree = ast.parse(MODULES[""].read_text(encoding="utf-8"))
    eager = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {dotted for node in eager for _, dotted in imports_of(node, ("lungseg",))}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_every_public_name_is_known_to_type_checkers_and_at_run_time() -> None:
    tree = ast.parse(MODULES[""].read_text(encoding="utf-8"))
    declared = {dotted.split(".")[-1] for _, dotted in imports_of(tree, ("lungseg",)) if home(dotted)}
    assert declared == set(lungseg.__all__) - {"__version__"}
    assert all(callable(getattr(lungseg, name)) or name == "RECIPES" for name in declared)


def in_python(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("module", ["lungseg", "lungseg.cli", "lungseg.preprocess"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert in_python(code).split() == []


def test_a_stage_is_its_function_even_after_its_module_was_imported() -> None:
    code = "import lungseg.verify, lungseg; print(callable(lungseg.verify), type(lungseg.verify).__name__)"
    assert in_python(code).split() == ["True", "function"]


def cpu_seconds(times: int, command: list[str]) -> float:
    """CPU time that the quickest of several runs took, which other work on the machine does not stretch, seconds."""
    seconds = []
    for _ in range(times):
        before = os.times()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=300)
        after = os.times()
        own = after.children_user - before.children_user + after.children_system - before.children_system
        seconds.append(own or 1e-3)
    return min(seconds)


def test_importing_takes_under_a_fifth_of_a_second() -> None:
    assert cpu_seconds(3, [sys.executable, "-c", "import lungseg"]) < 0.2


def test_help_takes_under_half_a_second() -> None:
    command = Path(sys.executable).with_name("lungseg" + (".exe" if os.name == "nt" else ""))
    start = [str(command)] if command.exists() else [sys.executable, "-m", "lungseg.cli"]
    assert cpu_seconds(3, [*start, "--help"]) < 0.5

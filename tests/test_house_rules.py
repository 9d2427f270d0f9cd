"""What no file of the project may hold: code that runs what it reads, paths of a machine, a missing notice.

Ruff holds part of it for Python files (pyproject.toml): S102 and S307 (``exec``, ``eval``), S202 (``extractall``), S301
and S302 (pickle, marshal), S506 (``yaml.load``), S602 to S605 (shells) and TID251 (imports of pickle and the like).  It
skips the notebooks, can be silenced by a comment, and knows nothing of ``torch.load`` and ``np.load``; hence the tests.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from lungseg.command_parser import build_parser
from lungseg.errors import NOTICE

ROOT = Path(__file__).resolve().parents[1]
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "joblib", "marshal"}
FORBIDDEN = {"eval", "exec", "builtins.eval", "builtins.exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
             "torch.hub.load"}  # fmt: skip
# What single files of tests may do, and why.
ALLOWED = {
    # Errors have to survive the way from a worker, which is a pickle of the process' own making.
    "tests/test_dataset.py": {"import pickle"},
    # Traps have to be made, and to be shown to spring where they are not refused.
    "tests/test_checkpoint.py": {"import pickle", "torch.load without weights_only=True"},
    "tests/malicious_checkpoints.py": {"import pickle"},
    "tests/test_slice_file.py": {"np.load with allow_pickle"},
}
COMMANDS = ("sample", "download", "verify", "preprocess", "shard", "train", "crossval", "evaluate", "score", "predict",
            "export", "animate", "reproduce", "demo")  # fmt: skip


def tracked_files() -> list[Path]:
    """Files that git knows or would take; outside a checkout, none."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    files = (ROOT / name for name in listed.decode("utf-8", "surrogateescape").split("\0") if name)
    return sorted(file for file in files if file.is_file())


FILES = tracked_files()
needs_git = pytest.mark.skipif(not FILES, reason="not in a git checkout")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Name and parsed code of every Python file and every notebook."""
    for path in FILES:
        if path.suffix == ".py":
            yield relative(path), ast.parse(path.read_text(encoding="utf-8"))
        elif path.suffix == ".ipynb":
            yield relative(path), ast.parse(code_of_notebook(path.read_text(encoding="utf-8")))


def code_of_notebook(text: str) -> str:
    """All code cells, without IPython's own ``%`` and ``!`` lines."""
    cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    lines = (line for cell in cells for line in [*"".join(cell["source"]).splitlines(), ""])
    return "\n".join(line for line in lines if not line.startswith(("%", "!")))


def dotted(node: ast.AST) -> str:
    """``np.lib.load`` of an expression of names and attributes; ``?`` for anything else in it."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def keyword(call: ast.Call, name: str) -> object:
    """A keyword's constant value; None where it is missing or no constant."""
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def faults_of(tree: ast.Module, allowed: Collection[str] = ()) -> list[str]:
    """What in a parsed file is forbidden, as ``line: what``."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [(node.lineno, f"import {name}") for name in names if name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.Call):
            what = dotted(node.func)
            last = what.rpartition(".")[2]
            if what in FORBIDDEN or last in ("extractall", "unpack_archive"):
                found.append((node.lineno, what))
            elif what == "torch.load" and keyword(node, "weights_only") is not True:
                found.append((node.lineno, "torch.load without weights_only=True"))
            elif what in ("np.load", "numpy.load") and any(
                k.arg in ("allow_pickle", None) and not (isinstance(k.value, ast.Constant) and k.value.value is False)
                for k in node.keywords
            ):
                found.append((node.lineno, "np.load with allow_pickle"))
            elif last == "load_from_checkpoint" and keyword(node, "weights_only") is not True:
                found.append((node.lineno, "load_from_checkpoint without weights_only=True"))
    return [f"{line}: {what}" for line, what in found if what not in allowed]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "import a, shelve",
        "import cloudpickle.compat",
        "eval('1')",
        "exec(code)",
        "tar.extractall(path)",
        "tarfile.open(p).extractall()",
        "yaml.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
        "np.load(f, **options)",
        "Module.load_from_checkpoint(f)",
    ],
)
def test_the_search_finds(code: str) -> None:
    assert len(faults_of(ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "net.eval()",
        "UNet().eval()",
        "np.load(f)",
        "np.load(f, allow_pickle=False)",
        "torch.load(f, weights_only=True)",
        "load(f)",
    ],
)
def test_the_search_passes_over(code: str) -> None:
    assert faults_of(ast.parse(code)) == []


def test_notebook_code_is_read_without_magics() -> None:
    cells = [{"cell_type": "code", "source": ["%matplotlib inline\n", "import pickle"]},
             {"cell_type": "markdown", "source": ["not code"]},
             {"cell_type": "code", "source": "eval('1')"}]  # fmt: skip
    assert len(faults_of(ast.parse(code_of_notebook(json.dumps({"cells": cells}))))) == 2


@needs_git
def test_no_code_runs_what_it_reads() -> None:
    checked = dict(sources())
    assert {"lungseg/checkpoint.py", "lungseg/slice_file.py", "tests/test_house_rules.py"} <= set(checked)
    found = {name: faults_of(tree, ALLOWED.get(name, ())) for name, tree in checked.items()}
    assert {name: faults for name, faults in found.items() if faults} == {}


# A path begins where no letter, dot, dash or slash stands before it, or "+", which base64 has.  Tests may name /tmp.
MACHINE_PATH = re.compile(r"(?<![\w.\-/+~*}])/(?:work|home|root|Users|mnt|opt|workspace)(?=/|\b)|[A-Z]:\\\\?Users")
TEMPORARY = re.compile(r"(?<![\w.\-/+~*}])/(?:tmp|var/tmp)(?=/|\b)")
INDEX = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org|--(?:extra-)?index[-]url\b",
    re.I,
)


def text_faults(name: str, text: str) -> list[str]:
    patterns = [MACHINE_PATH, INDEX] if name.startswith("tests/") else [MACHINE_PATH, INDEX, TEMPORARY]
    return [
        f"{name}:{number}: {match.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        for pattern in patterns
        if (match := pattern.search(line))
    ]


def test_the_search_for_paths_and_hosts_finds_them() -> None:
    slash = "/"
    bad = [f"cd {slash}work/main", f'"{slash}home/me"', f"({slash}root)", f"{slash}tmp/x", "pip --index-" + "url x",
           "https://py" + "pi.org/x"]  # fmt: skip
    assert [len(text_faults("docs/a.md", line)) for line in bad] == [1] * len(bad)
    good = ["notebooks/work/", "../home/x", "abc+/work/", "a/tmp", "/workers", "https://example.org/home/page"]
    assert [text_faults("docs/a.md", line) for line in good] == [[]] * len(good)


@needs_git
def test_no_file_names_a_path_of_a_machine_or_a_package_index() -> None:
    found = []
    for path in FILES:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += text_faults(relative(path), text)
    assert found == []


@needs_git
def test_no_merge_was_left_half_done() -> None:
    marker = re.compile(r"^(?:<{7}|>{7}) ", re.M)
    assert marker.search("a\n" + "<" * 7 + " HEAD\nb")
    texts = {relative(path): path.read_text(encoding="utf-8", errors="replace") for path in FILES}
    assert [name for name, text in texts.items() if marker.search(text)] == []


@needs_git
def test_no_data_model_or_archive_is_tracked() -> None:
    kinds = (
        ".nii",
        ".nii.gz",
        ".npy",
        ".npz",
        ".pkl",
        ".ckpt",
        ".pt",
        ".pth",
        ".tar",
        ".tar.gz",
        ".zip",
        ".dcm",
        ".onnx",
    )
    assert [relative(path) for path in FILES if path.name.endswith(kinds)] == []


def words(text: str) -> str:
    return " ".join(text.split())


def subparsers() -> dict[str, object]:
    return dict(build_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr,arg-type]


def test_the_commands_are_those_that_were_asked_for() -> None:
    assert tuple(subparsers()) == COMMANDS


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_every_command_ends_with_the_notice(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([command, "--help"] if command else ["--help"])
    assert ended.value.code == 0
    assert words(capsys.readouterr().out).endswith(NOTICE)


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"])
def test_the_notice_stands_where_people_read(name: str) -> None:
    if not (ROOT / name).exists():
        pytest.skip(f"there is no {name}")
    assert "not for clinical use" in words((ROOT / name).read_text(encoding="utf-8"))


def test_readme_is_short() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md")
    assert len(readme.read_text(encoding="utf-8").splitlines()) < 200


def test_the_licence_is_apache_2() -> None:
    text = words((ROOT / "LICENSE").read_text(encoding="utf-8"))
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert text.endswith("limitations under the License.")
    assert "END OF TERMS AND CONDITIONS" in text

"""No network but `download`'s: the tests run with every address but loopback blocked, and the pipeline without any."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .stress.victim import namespace
from .volumes import write_tree

OUTSIDE = ["192.0.2.1", "2001:db8::1", "data.example", "0.0.0.0"]  # of RFC 5737, RFC 3849 and RFC 2606


@pytest.mark.parametrize("host", OUTSIDE[:3])
def test_every_address_but_this_machines_is_blocked(host: str) -> None:
    with pytest.raises(OSError, match="no address but this machine's"):
        socket.create_connection((host, 443), timeout=5)


def test_a_socket_that_needs_no_look_up_is_blocked_too() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line,
        pytest.raises(OSError, match="no address but this machine's"),
    ):
        line.sendto(b"x", (OUTSIDE[0], 9))


def test_processes_that_the_tests_start_are_blocked_too() -> None:
    program = f"import socket; socket.create_connection(('{OUTSIDE[0]}', 443), timeout=5)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "no address but this machine's" in done.stderr


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
    with socket.create_server(("localhost", 0)) as server:
        assert server.getsockname()[1]


PIPELINE = """
import sys
from lungseg.cli import main
from lungseg.config import RECIPES
from tests.training import TINY
root, out = sys.argv[1:]
RECIPES["demo"] = TINY.but(epochs=1)
scan, label, cpu = f"{root}/imagesTr/lung_001.nii.gz", f"{root}/labelsTr/lung_001.nii.gz", ["--device", "cpu"]
for words in (
    ["sample", f"{out}/sample", "--cases", "1", "--test-cases", "0", "--shape", "32", "32", "16", "--workers", "1"],
    ["verify", root, "--workers", "2"],
    ["preprocess", root, f"{out}/slices", "--size", "32", "--skip-slices", "0", "--workers", "2"],
    ["train", f"{out}/slices", f"{out}/run", "--recipe", "demo", "--n-folds", "3", *cpu],
    ["evaluate", f"{out}/run", *cpu],
    ["predict", f"{out}/run", scan, f"{out}/mask.nii.gz", *cpu],
    ["score", label, label],
    ["export", f"{out}/run", f"{out}/weights.safetensors"],
    ["animate", scan, f"{out}/scan.gif"],
):
    assert main(words) == 0, words
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs network namespaces of Linux")
def test_the_pipeline_runs_where_there_is_no_network_at_all(tmp_path: Path) -> None:
    words = [*namespace(), "-n"]
    if subprocess.run([*words, "true"], capture_output=True).returncode != 0:
        pytest.skip("this system lets nobody make a network namespace")
    root = write_tree(tmp_path / "root")
    (tmp_path / "out").mkdir()
    ended = subprocess.run(
        [*words, sys.executable, "-c", PIPELINE, root, tmp_path / "out"],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]

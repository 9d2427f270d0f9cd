"""Stress in small numbers; `make stress` runs the same in full and writes benchmarks/results/stress.json."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from .stress import Figure, bombs, full_disk, grammar, hostile, kills, mutants, orientations, races
from .stress.victim import Victim, can_mount

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and signals of POSIX")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """nibabel logs what it mends in a mutant."""
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


def holds(figure: Figure, tried: int) -> None:
    assert figure.tried >= tried
    assert not figure.failures, str(figure)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_14_to_22_header_mutants(tmp_path: Path) -> None:
    holds(mutants.header_mutants(300, tmp_path, seed=1), 300)


def test_rows_11_to_13_gzip_mutants(tmp_path: Path) -> None:
    holds(mutants.gzip_mutants(90, tmp_path, seed=1), 90)


def test_rows_14_bombs(tmp_path: Path) -> None:
    holds(bombs.bombs(2, tmp_path), 2)


def test_row_44_orientation_round_trips(tmp_path: Path) -> None:
    holds(orientations.orientation_round_trips(1, tmp_path), 48)


def test_rows_04_to_06_malicious_archives(tmp_path: Path) -> None:
    holds(hostile.archives(99, tmp_path), 20)  # checkpoints: tests/test_checkpoint.py


def test_made_up_files_of_every_reader(tmp_path: Path) -> None:
    holds(grammar.made_up(0, tmp_path, start=1, examples=12), 100)


@posix
def test_row_28_preprocess_is_killed(tmp_path: Path) -> None:
    holds(kills.preprocess_kills(3, tmp_path, seed=1), 3)


@posix
def test_rows_36_and_37_training_is_killed(tmp_path: Path) -> None:
    holds(kills.training_kills(2, tmp_path, seed=1), 2)


@posix
def test_row_45_a_read_only_target_is_said_by_every_writer(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this system lets nobody mount a disk")
    disk = tmp_path / "disk"
    with Victim(tmp_path, own_mounts=True) as victim:
        victim.ask("mount", path=disk, size=8 << 20)
        full_disk.prepare(Figure("", ""), victim, tmp_path, disk)
        victim.ask("read_only", path=disk)
        for name, writer in full_disk.writers(tmp_path).items():
            done = victim.run(*writer.words(disk))
            last = done["err"].strip().splitlines()[-1]
            assert done["code"] == 5 and "Read-only" in last and str(disk) in last, f"{name}: {done}"
            assert "Traceback" not in done["err"]


@posix
def test_row_45_scans_on_a_read_only_disk_are_read_as_any_other(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this system lets nobody mount a disk")
    disk, out = tmp_path / "disk", tmp_path / "out"
    scan, label = disk / "root/imagesTr/lung_001.nii.gz", disk / "root/labelsTr/lung_001.nii.gz"
    cpu = ("--device", "cpu")
    with Victim(tmp_path, own_mounts=True) as victim:
        disk.mkdir()
        full_disk.prepare(Figure("", ""), victim, disk, tmp_path)
        victim.ask("freeze", path=disk)
        refused = victim.run("preprocess", disk / "root", disk / "slices", "--size", 16, "--workers", 1)
        assert refused["code"] == 5 and "Read-only" in refused["err"]
        for words in (
            ("verify", disk / "root", "--json", tmp_path / "v.json", "--workers", 1),
            ("preprocess", disk / "root", out / "slices", "--size", 16, "--skip-slices", 0, "--workers", 1),
            ("train", disk / "processed", out / "run", "--recipe", "demo", "--n-folds", 3, *cpu),
            ("evaluate", tmp_path / "run", "--scans", disk / "root", *cpu),
            ("predict", tmp_path / "run", disk / "root", out / "masks", *cpu),
            ("score", out / "masks", disk / "root/labelsTr", "--workers", 1),
            ("animate", scan, out / "a.gif", "--truth", label),
        ):
            done = victim.run(*words)
            assert done["code"] == 0, f"{words[0]}: {done['err'][-300:]}"


@posix
def test_row_45_predict_is_killed(tmp_path: Path) -> None:
    holds(kills.predict_kills(4, tmp_path), 4)


@posix
def test_row_08_every_writer_on_a_full_disk(tmp_path: Path) -> None:
    holds(full_disk.full_disks([0.3], tmp_path, told=(False,), only=("preprocess", "train", "predict", "export")), 4)


@posix
def test_rows_09_and_32_four_writers_at_once(tmp_path: Path) -> None:
    holds(races.races(2, tmp_path), 2)

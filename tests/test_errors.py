"""Errors are one line, name everything, and survive the way out of a worker process."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from lungseg.errors import DataError, IntegrityError, LungsegError, MachineError, Problem, UsageError, printable


def test_one_line_with_stage_file_numbers_and_mend() -> None:
    problem = Problem("x", "is bad", "1 mm", "2 mm", "Mend it.", "a\nb.nii.gz", "lung_001")
    assert str(DataError(problem, "verify")) == "verify: a\\nb.nii.gz: is bad (expected 1 mm; found 2 mm). Mend it."


@pytest.mark.parametrize("name", ["a\nb", "a\tb\x1b[31m", "\udcff.nii", "ü ñ.nii", "-rf"])
def test_row_49_names_are_escaped_onto_one_line(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_exit_codes_are_those_of_the_contract() -> None:
    codes = {kind: kind.exit_code for kind in (UsageError, DataError, IntegrityError, MachineError)}
    assert list(codes.values()) == [2, 3, 4, 5]


def _raise() -> None:
    raise DataError(Problem("x", "is bad", file="a.nii"), "preprocess")


def test_errors_come_whole_out_of_a_worker() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool, pytest.raises(DataError) as caught:
        pool.submit(_raise).result()
    assert caught.value.problem == Problem("x", "is bad", file="a.nii")
    assert caught.value.stage == "preprocess"


def test_short_form() -> None:
    error = UsageError.of("x", "is bad", expected="1", file="a", stage="train")
    assert isinstance(error, LungsegError) and error.problem.expected == "1" and error.stage == "train"

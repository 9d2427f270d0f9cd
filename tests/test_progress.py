"""Progress: plain lines where there is no terminal, a bar where there is one, and never in the way of the work."""

from __future__ import annotations

import itertools

import pytest

from lungseg import progress as module
from lungseg.progress import byte_bar, on_terminal, progress


def test_lines_without_a_terminal(capsys) -> None:
    assert not on_terminal()
    assert list(progress(["a", "b", "c"], what="slicing")) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == ""  # standard output belongs to the result
    assert err == "slicing: 3/3 cases in 0 s\n"


def test_a_line_every_ten_seconds_and_at_the_end(capsys, monkeypatch) -> None:
    clock = itertools.count(0.0, 4.0)  # each look at the clock is 4 s later
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    assert len(list(progress(iter(range(7)), what="checking", total=7, unit="scan"))) == 7
    assert capsys.readouterr().err.splitlines() == [
        "checking: 3/7 scans in 12 s", "checking: 6/7 scans in 24 s", "checking: 7/7 scans in 28 s",
    ]  # fmt: skip


def test_an_unknown_total_is_not_made_up(capsys, monkeypatch) -> None:
    clock = itertools.count(0.0, 11.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    list(progress(iter("ab"), what="reading", unit="slice"))
    assert capsys.readouterr().err.splitlines() == ["reading: 1 slices in 11 s", "reading: 2 slices in 22 s"]


def test_items_are_taken_one_at_a_time() -> None:
    taken = []
    items = progress((taken.append(number) or number for number in range(5)), what="x", total=5)
    assert next(items) == 0 and taken == [0]


def test_nothing_to_do_and_errors_say_nothing(capsys) -> None:
    def broken():
        yield 1
        raise ZeroDivisionError

    assert list(progress([], what="x")) == []
    with pytest.raises(ZeroDivisionError):
        list(progress(broken(), what="x", total=3))
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    assert on_terminal()
    assert list(progress(["a", "b"], what="slicing", unit="case")) == ["a", "b"]
    out, err = capsys.readouterr()
    assert out == "" and "\r" in err
    assert "slicing: 100%" in err and "2/2" in err


def test_a_bar_of_bytes_on_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with byte_bar(2_000_000, what="fetching") as bar:
        bar.update(2_000_000)
    err = capsys.readouterr().err
    assert "2.00M/2.00M" in err and "fetching" in err


def test_bytes_are_counted_in_lines_without_a_terminal(capsys, monkeypatch) -> None:
    clock = itertools.count(0.0, 6.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with byte_bar(9_160_000_000, what="download") as bar:
        for _ in range(4):
            bar.update(2_290_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "download: 4,580.0 of 9,160.0 MB in 12 s", "download: 9,160.0 of 9,160.0 MB in 24 s",
        "download: 9,160.0 of 9,160.0 MB in 30 s",
    ]  # fmt: skip
    with byte_bar(None, what="check") as bar:
        bar.update(1_500_000)
    assert capsys.readouterr().err == "check: 1.5 MB in 12 s\n"


def test_bytes_that_never_came_or_broke_off_leave_no_closing_line(capsys) -> None:
    with byte_bar(0, what="unpack"):
        pass
    with pytest.raises(ZeroDivisionError), byte_bar(5, what="unpack") as bar:
        bar.update(3)
        raise ZeroDivisionError
    assert capsys.readouterr().err == ""

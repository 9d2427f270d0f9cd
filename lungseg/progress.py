"""Progress of long work: a tqdm bar on a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 10.0


def on_terminal() -> bool:
    """Whether progress goes to a terminal (standard error); a log file or a pipe gets plain lines instead."""
    return sys.stderr.isatty()


def progress(items: Iterable[T], *, what: str, total: int | None = None, unit: str = "case") -> Iterator[T]:
    """Yield ``items`` and show how far it is: ``what`` names the work, ``unit`` one item of it."""
    if on_terminal():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, unit=unit)
        return
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last >= _SECONDS_BETWEEN_LINES:
            of = f"/{total}" if total is not None else ""
            print(f"{what}: {done}{of} {unit}s in {now - started:.0f} s", file=sys.stderr, flush=True)
            last = now


def byte_bar(total: int | None, *, what: str) -> tqdm | _ByteLines:
    """A bar that counts bytes (``bar.update(n)``), used as a context; plain lines where there is no terminal."""
    if not on_terminal():
        return _ByteLines(total, what)
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="B", unit_scale=True, unit_divisor=1000)


class _ByteLines:
    """What :func:`byte_bar` is without a terminal: a line every ten seconds, and one at the end."""

    def __init__(self, total: int | None, what: str) -> None:
        self._what, self._total, self._done = what, total, 0
        self._started = self._last = time.monotonic()

    def update(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._say(now)
            self._last = now

    def __enter__(self) -> _ByteLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._done:
            self._say(time.monotonic())

    def _say(self, now: float) -> None:
        of = f" of {self._total / 1e6:,.1f}" if self._total is not None else ""
        text = f"{self._what}: {self._done / 1e6:,.1f}{of} MB in {now - self._started:.0f} s"
        print(text, file=sys.stderr, flush=True)

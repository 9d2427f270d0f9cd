"""The command ``lungseg``: one subcommand a stage, one line an error, exit codes that mean something.

Exit codes: 0 done, with or without warnings; 1 a fault of lungseg, or training that diverged; 2 usage; 3 a scan, label
or pair is bad (the good ones are done); 4 an archive, checkpoint or weights file refused; 5 the machine (disk, memory,
lock); 130 and 143 interrupted.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from .command_parser import build_parser
from .errors import LungsegError, MachineError, printable
from .files import machine_error
from .place import is_store_error, store_error


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal can not show is no fault
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has gone: not an error of ours, and nobody is left to be told.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return 0


def _run(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    try:
        return int(args.handler(args))
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt, _Terminated) as error:
        text, code = _explained(error, args.command)
        if args.debug:
            traceback.print_exc()
        for problem in getattr(error, "others", ()):
            print(f"error: {problem}", file=sys.stderr)
        print(f"lungseg {args.command}: {text}", file=sys.stderr)
        return code


def _explained(error: BaseException, command: str) -> tuple[str, int]:
    """One line for people, and the exit code."""
    again = "the same command with --resume goes on" if command == "train" else "the same command goes on"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {again} where it was", 130
    if isinstance(error, _Terminated):
        return f"terminated; {again} where it was", 143
    if isinstance(error, MemoryError):
        return "there is not enough memory. Use fewer --workers or a smaller batch.", MachineError.exit_code
    if isinstance(error, OSError):
        error = machine_error(error, error.filename or "")
    elif is_store_error(error):
        error = store_error(error)
    if isinstance(error, LungsegError):
        return str(error.problem), error.exit_code
    text = printable(f"{type(error).__name__}: {error}")
    return f"{text}. This is a fault of lungseg: run again with --debug and report it.", 1


def _joined(argv: Sequence[str]) -> list[str]:
    """``--window -1000,400`` as one word, because argparse takes what begins with a dash for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--window" and "--" not in words and re.match(r"-[\d.]", word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that temporary files are removed on the way out."""


def _terminated(number: int, frame: Any) -> NoReturn:
    raise _Terminated


if __name__ == "__main__":
    sys.exit(main())

"""A Kaggle dataset by Kaggle's own client, which is an extra (`pip install 'lungseg[kaggle]'`)."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

from .errors import MachineError, Problem, UsageError, printable
from .progress import on_terminal

_HOW = "Put an API token in place as https://www.kaggle.com/docs/api says, or use --source aws, which needs none."


def fetch_kaggle(dataset: str, folder: Path) -> Path:
    """Fetch a dataset as one zip; the client resumes a download that was cut off.

    Args:
        dataset: ``OWNER/NAME``.
        folder: where the zip is put; exists, and the caller holds its lock.

    Returns:
        The zip, ``folder/NAME.zip``.

    Raises:
        UsageError: no such form of a name, no client installed, or no credentials.
        MachineError: the client could not fetch it.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+", dataset):
        raise UsageError(Problem("bad-source", "is no Kaggle dataset", expected="kaggle:OWNER/NAME", found=dataset))
    # The client prints to standard output, which belongs to the results of a command.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            # Importing it already looks for credentials, and some versions leave the process where there are none.
            from kaggle.api.kaggle_api_extended import KaggleApi  # type: ignore[import-not-found,unused-ignore]

            client = KaggleApi()
            client.authenticate()
        except ImportError as cause:
            what = "the source kaggle needs Kaggle's own client, which is not installed"
            mend = "Run `pip install 'lungseg[kaggle]'`, or use --source aws, which needs nothing more."
            raise UsageError(Problem("no-kaggle-client", what, mend=mend)) from cause
        except (Exception, SystemExit) as cause:
            what = "Kaggle's client finds no credentials"
            raise UsageError(Problem("no-kaggle-credentials", what, found=_first_line(cause), mend=_HOW)) from cause
        try:
            client.dataset_download_files(dataset, path=str(folder), quiet=not on_terminal(), unzip=False)
        except (Exception, SystemExit) as cause:
            mend = "Check the name and the network, and run the same command again."
            raise MachineError(
                Problem("kaggle", "Kaggle's client failed", found=_first_line(cause), file=dataset, mend=mend)
            ) from cause
    archive = folder / f"{dataset.partition('/')[2]}.zip"
    if not archive.is_file():
        what = "Kaggle's client ended without the dataset's zip"
        raise MachineError(Problem("kaggle", what, expected=archive.name, file=dataset, mend=_HOW))
    return archive


def _first_line(cause: BaseException) -> str:
    return printable((str(cause).splitlines() or [type(cause).__name__])[0][:200])

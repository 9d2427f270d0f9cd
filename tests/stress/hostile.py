"""Archives and checkpoints made to do harm (rows 4 to 6 and 40)."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from lungseg.archive import unpack
from lungseg.checkpoint import load_model
from lungseg.errors import IntegrityError
from tests import malicious_checkpoints, malicious_tars

from . import Figure

MOST_SECONDS, MOST_BYTES = 5.0, 1 << 30


def archives(count: int, folder: Path) -> Figure:
    """The first ``count`` forms of archives."""
    figure = Figure("malicious_archives", "refused with 4, no byte written outside or inside")
    for number, (form, (code, write)) in enumerate(list(malicious_tars.FORMS.items())[:count]):
        place = folder / f"archive-{number}"
        (place / "in").mkdir(parents=True)
        (place / "out").mkdir()
        archive = place / "in" / "Task06_Lung.tar"
        write(archive)
        before = malicious_tars.everything_below(place)
        figure.tried += 1
        try:
            unpack(archive, place / "out", origin={"sha256": ""})
            figure.check(False, f"{form}: unpacked")
        except IntegrityError as error:
            figure.check(error.problem.code == code, f"{form}: refused as {error.problem.code}, not {code}")
        except Exception as error:
            figure.check(False, f"{form}: {type(error).__name__}: {error}")
        figure.check(malicious_tars.everything_below(place) == before, f"{form}: something was written")
        figure.check(not (place.parent / "escaped.nii.gz").exists(), f"{form}: a file got out")
        archive.unlink()
    return figure


def checkpoints(count: int, folder: Path) -> Figure:
    """The first ``count`` forms of checkpoints."""
    figure = Figure("malicious_checkpoints", "refused with 4, nothing executed, under 5 s and 1 GiB")
    for number, (form, (_, write)) in enumerate(list(malicious_checkpoints.FORMS.items())[:count]):
        marker = folder / f"executed-{number}"
        path = malicious_checkpoints.vouched_for(folder / f"{number}.ckpt", write(marker))
        before, started = _peak_bytes(), time.process_time()
        figure.tried += 1
        try:
            load_model(path)
            figure.check(False, f"{form}: loaded")
        except IntegrityError as error:
            figure.check("\n" not in str(error), f"{form}: says {error}")
        except Exception as error:
            figure.check(False, f"{form}: {type(error).__name__}: {error}")
        seconds, grown = time.process_time() - started, _peak_bytes() - before
        figure.check(seconds < MOST_SECONDS, f"{form}: took {seconds:.1f} s of processor")
        figure.check(grown < MOST_BYTES, f"{form}: took {grown:,} bytes")
        figure.check(not marker.exists(), f"{form}: executed")
        path.unlink()
    return figure


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

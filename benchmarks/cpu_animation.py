"""The animation of a scan of 304 slices against celluloid, on the same slices; and how long starting takes."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from measure import LUNGSEG, command, in_turns


def celluloid_frames(scan: Path, label: Path, out: Path, every: int) -> None:
    """What the published notebooks do: a picture and a masked overlay a slice, a snapshot each, saved by Pillow."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import nibabel as nib
    import numpy as np
    from celluloid import Camera

    ct, mask = nib.load(scan).get_fdata(), nib.load(label).get_fdata()
    figure = plt.figure()
    camera = Camera(figure)
    for z in range(0, ct.shape[-1], every):
        plt.imshow(ct[:, ::-1, z].T, cmap="bone")
        plt.imshow(np.ma.masked_where(mask[:, ::-1, z].T == 0, mask[:, ::-1, z].T), alpha=0.5, cmap="autumn")
        plt.axis("off")
        camera.snap()
    camera.animate().save(str(out), writer="pillow", fps=5)


def animation(volumes: Path, work: Path, rounds: int, every: int = 1) -> dict[str, Any]:
    """``lungseg animate`` against celluloid, whole commands, every slice of ``lung_001``."""
    scan, label = (volumes / name / "lung_001.nii.gz" for name in ("imagesTr", "labelsTr"))
    ours = [LUNGSEG, "animate", scan, work / "ours.gif", "--mask", label, "--every", str(every)]
    other = [sys.executable, Path(__file__), scan, label, work / "celluloid.gif", str(every)]
    return in_turns(lambda: command(ours), lambda: command(other), rounds).as_dict() | {"every": every}


def start(rounds: int) -> dict[str, Any]:
    """CPU time of ``lungseg --help``, of a Python that imports lungseg, and of one that does nothing."""

    def median(words: list[Any]) -> float:
        return round(statistics.median(command(words).cpu for _ in range(rounds)), 3)

    python = [sys.executable, "-c"]
    return {
        "help_s": median([LUNGSEG, "--help"]),
        "import_s": median([*python, "import lungseg"]),
        "bare_python_s": median([*python, "pass"]),
    }


if __name__ == "__main__":
    celluloid_frames(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))

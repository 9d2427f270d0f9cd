"""One tool on every broken case: run by benchmarks/faults.py in the tools' own environment.

    python faults_tools.py TOOL LIST.json

Each case is read in a fork, so that what crashes, hangs or fills the memory ends there.  Prints a JSON line a case.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MOST_SECONDS, MOST_BYTES = 60, 4 << 30
ALL_WELL = "If you didn't see any error messages"  # how nnU-Net ends where it found nothing


def nibabel() -> Callable[[Path, Path], Any]:
    import nibabel

    return lambda image, label: (nibabel.load(image).get_fdata(), nibabel.load(label).get_fdata())[0]


def SimpleITK() -> Callable[[Path, Path], Any]:
    import SimpleITK

    def read(image: Path, label: Path) -> Any:
        SimpleITK.ReadImage(str(label))
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(image))).T

    return read


def TorchIO() -> Callable[[Path, Path], Any]:
    import torchio

    def read(image: Path, label: Path) -> Any:
        subject = torchio.Subject(image=torchio.ScalarImage(image), label=torchio.LabelMap(label))
        loaded = torchio.SubjectsDataset([subject])[0]
        torchio.RandomAffine()(loaded)  # a spatial transform looks whether the two belong together
        return loaded["image"].data[0].numpy()

    return read


def MONAI() -> Callable[[Path, Path], Any]:
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandFlipd

    steps = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"]),
                     RandFlipd(["image", "label"], prob=0.0)])  # fmt: skip
    return lambda image, label: np.asarray(steps({"image": str(image), "label": str(label)})["image"])[0]


def nnUNet() -> Callable[[Path, Path], Any]:
    import multiprocessing

    multiprocessing.get_context = lambda _=None: multiprocessing.context.ForkContext()  # type: ignore[assignment]
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    def read(image: Path, label: Path) -> Any:
        verify_dataset_integrity(str(image.parents[1]), num_processes=1)

    return read


def child(read: Callable[[Path, Path], Any], case: dict[str, str], answer: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES + _address_space(), resource.RLIM_INFINITY))
    signal.alarm(MOST_SECONDS)
    said = io.StringIO()
    started = time.perf_counter()
    result: dict[str, Any] = {}
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(record=True) as odd,
    ):
        warnings.simplefilter("always")
        try:
            found = read(Path(case["image"]), Path(case["label"]))
            result = {"outcome": "silent", **_against(found, case["expected"])}
        except MemoryError:
            result = {"outcome": "crash", "says": "MemoryError"}
        except BaseException as error:
            result = {"outcome": "refused", "says": f"{type(error).__name__}: {_reason(error)[:300]}"}
    text = said.getvalue() + " ".join(str(one.message) for one in odd if "NIfTI" in str(one.message))
    lines = [line.strip() for line in text.splitlines() if ALL_WELL not in line]
    loud = [line for line in lines if "warning" in line.lower() or "error" in line.lower()]
    if result["outcome"] == "silent" and loud:
        result |= {"outcome": "warned", "says": loud[0][:300]}
    result["seconds"] = round(time.perf_counter() - started, 2)
    os.write(answer, json.dumps(result).encode())


def _against(found: Any, expected: str) -> dict[str, Any]:
    """How much of what was read is not what the sound scan holds."""
    if found is None:
        return {}
    truth = np.load(expected)
    found = np.asarray(found)
    if found.shape != truth.shape:
        return {"shape": list(found.shape)}
    with np.errstate(all="ignore"):
        return {"wrong_voxels": int(np.count_nonzero(~np.isclose(found.real, truth, atol=0.5))), "voxels": truth.size}


def _reason(error: BaseException) -> str:
    """The innermost error's words: MONAI wraps it."""
    while isinstance(error.__cause__, BaseException):
        error = error.__cause__
    return str(error).strip()


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    tool, cases = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    # What the tools print while they are loaded must not stand between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    read = {one.__name__: one for one in (nibabel, SimpleITK, TorchIO, MONAI, nnUNet)}[tool]()
    for case in cases:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                child(read, case, writing)
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            data = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if data:
            result = json.loads(data)
        else:
            how = "no answer in a minute" if status == -signal.SIGALRM else f"ended by signal {-status}"
            result = {"outcome": "crash", "says": how}
        print(json.dumps({"case": case["name"], **result}), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""nnU-Net v2 `2d` on one fold of the slice sets: its planner, preprocessing, trainer and inference, then counts.

Each slice is a case of its own, a PNG of 16 bits that holds HU + 2000 without loss (so nothing is 0, which nnU-Net
would crop), read by nnU-Net's `NaturalImage2DIO`.  The channel is named CT, so it is normalised as nnU-Net does CT:
clipped to percentiles of the tumours' HU and z-scored by their mean and deviation; the offset drops out.  Folds are by
patient.  Training is its own command with one of its short schedules; that command ends with its own inference by the
last weights, with mirroring, on the held-out slices; nothing is chosen on them.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import accuracy_score as score
import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
DATASET = "Dataset506_LungSlices"
OFFSET_HU = 2000
PLANS = "nnUNetPlans"
LOADERS_A_FOLD = 12  # nnU-Net's own number of augmenting processes, where one fold has the machine


def environment(work: Path, *, loaders: int, compiled: bool) -> dict[str, str]:
    """nnU-Net's settings are environment variables of its own processes."""
    missing = importlib.util.find_spec("SimpleITK") is None
    paths = [str(HERE / "nnunet")] if missing else []
    return {
        **os.environ,
        **{f"nnUNet_{name}": str(work / f"nnUNet_{name}") for name in ("raw", "preprocessed", "results")},
        "nnUNet_extTrainer": str(HERE / "nnunet" / "trainers"),
        "nnUNet_n_proc_DA": str(loaders),
        "nnUNet_def_n_proc": str(max(2, min(8, loaders))),
        # Where it is not set, nnU-Net compiles its training and not its inference; set to true, inference as well.
        **({} if compiled else {"nnUNet_compile": "false"}),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def prepare(tree: Path, work: Path, *, processes: int) -> float:
    """PNGs, fingerprint, plan and preprocessing, once for all folds; returns what it took, seconds.

    A second call returns what the first one took.
    """
    done = work / "prepared.json"
    if done.is_file():
        return float(json.loads(done.read_text())["seconds"])
    started = time.perf_counter()
    raw = work / "nnUNet_raw" / DATASET
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    images = sorted((tree / "imagesTr").glob("*.nii.gz"))
    with ProcessPoolExecutor(processes) as pool:
        slices = dict(pool.map(_write_slices, images, [tree] * len(images), [raw] * len(images)))
    (raw / "dataset.json").write_text(json.dumps({
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "tumour": 1},
        "numTraining": sum(slices.values()), "file_ending": ".png", "overwrite_image_reader_writer": "NaturalImage2DIO",
    }))  # fmt: skip
    code = (
        "import setuptools\n"  # its distutils, which Python 3.12 no longer has and nnU-Net asks for
        "from nnunetv2.experiment_planning import plan_and_preprocess_api as api\n"
        f"if __name__ == '__main__':\n    api.extract_fingerprints([506], num_processes={processes})\n"
        f"    api.plan_experiments([506])\n    api.preprocess([506], {PLANS!r}, ('2d',), ({processes},))\n"
    )
    _python(code, work, "prepare.log", environment(work, loaders=LOADERS_A_FOLD, compiled=False))
    target = work / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    target.write_text(json.dumps(slice_splits(json.loads((tree / "splits_final.json").read_text()), slices)))
    seconds = time.perf_counter() - started
    done.write_text(json.dumps({"seconds": seconds}))
    return seconds


def slice_name(case: str, index: int) -> str:
    return f"{case}_z{index:04d}"


def patient_of(name: str) -> str:
    """The patient that a slice's name belongs to, the reverse of `slice_name`."""
    found = re.fullmatch(r"(.+)_z[0-9]{4}", name)
    if found is None:
        raise SystemExit(f"{name} is no name of a slice")
    return found[1]


def slice_splits(splits: list[dict[str, list[str]]], slices: dict[str, int]) -> list[dict[str, list[str]]]:
    """nnU-Net's folds of slices from folds of patients: all slices of a patient are on its side.

    Args:
        splits: patients, as in the tree's ``splits_final.json``.
        slices: how many there are of each patient.
    """
    return [
        {
            part: [slice_name(case, z) for case in sorted(cases) for z in range(slices[case])]
            for part, cases in fold.items()
        }
        for fold in splits
    ]


def run(
    work: Path, tree: Path, fold: int, *, trainer: str, device: str, loaders: int, compiled: bool, mirrored_only: bool
) -> Iterator[score.FoldRecord]:
    """Train one fold, predict it and count; a second record is of the same weights without mirroring.

    Args:
        work: what `prepare` has filled.
        tree: the slice sets in Task06_Lung's layout.
        fold: which fold is held out.
        trainer: ending of nnU-Net's trainer, such as ``5epochs``.
        device: ``cuda`` or ``cpu``.
        loaders: augmenting processes (nnU-Net starts half as many more for its online validation).
        compiled: whether torch.compile is used.
        mirrored_only: leave the second record out.
    """
    val = score.held_out(tree, fold)[1]
    prepared = prepare(tree, work, processes=loaders)
    settings = environment(work, loaders=loaders, compiled=compiled)
    name = f"nnUNetTrainer_{trainer}"
    started = time.perf_counter()
    words = ["train", "506", "2d", str(fold), "-tr", name, "-device", device]
    code = (
        "import sys\nfrom nnunetv2.run.run_training import run_training_entry\n"
        f"if __name__ == '__main__':\n    sys.argv = {words!r}\n"
        "    run_training_entry()\n"
    )
    _python(code, work, f"train-{trainer}-{fold}.log", settings)
    took = time.perf_counter() - started
    results = work / "nnUNet_results" / DATASET / f"{name}__{PLANS}__2d"
    training = _its_log(results / f"fold_{fold}")
    facts = {
        **training, **_plan(work), "trainer": name, "loaders": loaders, "compiled": compiled,
        "normalisation": "CTNormalization", "versions": {"nnunetv2": importlib.metadata.version("nnunetv2")},
    }  # fmt: skip
    truth = work / "nnUNet_raw" / DATASET / "labelsTr"
    for mirrored in (True,) if mirrored_only else (True, False):
        folder = results / f"fold_{fold}" / ("validation" if mirrored else "unmirrored")
        if not mirrored:
            before = time.perf_counter()
            _predict_unmirrored(work, results, fold, folder, device, settings)
            took = training["until_trained_s"] + time.perf_counter() - before
        cases = score.by_patient(
            (patient_of(path.stem), score.counts(_png(truth / path.name), _png(path)))
            for path in sorted(folder.glob("*.png"))
        )
        score.check_patients(cases, val)
        seconds = {"prepare": prepared, "train": training["until_trained_s"],
                   "predict": took - training["until_trained_s"], "total": prepared + took}  # fmt: skip
        system = f"nnunet_{trainer}{'' if mirrored else '_unmirrored'}"
        yield score.FoldRecord(system, fold, 0, tuple(cases), seconds, {}, {**facts, "mirrored": mirrored})


def _write_slices(image: Path, tree: Path, raw: Path) -> tuple[str, int]:
    import nibabel

    case = image.name.removesuffix(".nii.gz")
    hu = np.asarray(nibabel.load(image).dataobj)
    label = np.asarray(nibabel.load(tree / "labelsTr" / image.name).dataobj)
    low, high = int(hu.min()) + OFFSET_HU, int(hu.max()) + OFFSET_HU
    if low <= 0 or high > np.iinfo(np.uint16).max:
        raise SystemExit(f"{image}: HU from {hu.min()} to {hu.max()} do not fit into 16 bits")
    for z in range(hu.shape[2]):
        name = slice_name(case, z)
        levels = np.ascontiguousarray(hu[:, :, z].astype(np.int32) + OFFSET_HU).astype(np.uint16)
        cv2.imwrite(str(raw / "imagesTr" / f"{name}_0000.png"), levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        cv2.imwrite(str(raw / "labelsTr" / f"{name}.png"), np.ascontiguousarray(label[:, :, z] > 0).astype(np.uint8))
    return case, hu.shape[2]


def _png(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise SystemExit(f"{path} can not be read")
    return np.asarray(image)


def _plan(work: Path) -> dict[str, Any]:
    plan = json.loads((work / "nnUNet_preprocessed" / DATASET / f"{PLANS}.json").read_text())["configurations"]["2d"]
    return {"batch": plan["batch_size"], "patch": plan["patch_size"]}


def _its_log(folder: Path) -> dict[str, Any]:
    """Seconds of each epoch and until its training was done, from nnU-Net's own log of the last run."""
    return parse_log(max(folder.glob("training_log_*.txt")).read_text("utf-8"))


def parse_log(text: str) -> dict[str, Any]:
    """``epoch_s`` and ``until_trained_s`` (from the first line of the log with a time to `Training done.`)."""
    stamps = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+):(.*)$", text, re.M)
    times = [(datetime.datetime.fromisoformat(stamp), words) for stamp, words in stamps]
    done = [moment for moment, words in times if "Training done" in words]
    if not done:
        raise SystemExit("nnU-Net's log does not say that training was done")
    return {
        "epoch_s": [float(value) for value in re.findall(r"Epoch time: ([0-9.]+) s", text)],
        "until_trained_s": (done[-1] - times[0][0]).total_seconds(),
    }


def _predict_unmirrored(work: Path, results: Path, fold: int, out: Path, device: str, settings: dict[str, str]) -> None:
    names = sorted(path.stem for path in (results / f"fold_{fold}" / "validation").glob("*.png"))
    images = work / "nnUNet_raw" / DATASET / "imagesTr"
    code = (
        "import json, sys, torch\nfrom nnunetv2.inference.predict_from_raw_data import nnUNetPredictor\n"
        "if __name__ == '__main__':\n    images, outs = json.load(sys.stdin)\n"
        f"    p = nnUNetPredictor(use_mirroring=False, device=torch.device({device!r}), allow_tqdm=False,\n"
        f"                        perform_everything_on_device={device == 'cuda'})\n"
        f"    p.initialize_from_trained_model_folder({str(results)!r}, ({fold},), 'checkpoint_final.pth')\n"
        "    p.predict_from_files(images, outs, num_processes_preprocessing=2, num_processes_segmentation_export=2)\n"
    )
    out.mkdir(exist_ok=True)
    lists = [[[str(images / f"{name}_0000.png")] for name in names], [str(out / name) for name in names]]
    _python(code, work, f"predict-{results.name}-{fold}.log", settings, json.dumps(lists))


def _python(code: str, work: Path, log: str, settings: dict[str, str], text: str = "") -> None:
    """Run code as a script (nnU-Net spawns processes, which read the script again); its output goes to a log."""
    script = work / f"{log}.py"
    script.write_text(code)
    with open(work / log, "w", encoding="utf-8") as file:
        done = subprocess.run([sys.executable, str(script)], env=settings, stdout=file, stderr=subprocess.STDOUT,
                              input=text, text=True, check=False)  # fmt: skip
    if done.returncode:
        with contextlib.suppress(OSError):
            sys.stderr.write("".join((work / log).read_text(errors="replace").splitlines(True)[-25:]))
        raise SystemExit(f"nnU-Net ended with exit code {done.returncode}; see {work / log}")

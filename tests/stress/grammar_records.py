"""Readers of the records that commands keep beside what they write, for :mod:`tests.stress.grammar`."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lungseg import crossval_folder
from lungseg.archive import MARKER, damaged_files, unpack
from lungseg.fetch import read_note
from lungseg.manifest import Manifest
from lungseg.other_scores import read_scores
from lungseg.predict import predict
from lungseg.prediction_record import already_there, warnings_of
from lungseg.probability_map import read_map, write_map
from lungseg.report.case_file import read_case, write_case
from lungseg.report.evaluation_page import write_report
from lungseg.seen_scans import trained_on
from lungseg.splits import k_fold
from lungseg.tally import SliceTally
from lungseg.visualize.curves import read_metrics
from tests.reports import TUMOUR, small_report, view
from tests.training import TINY

from .grammar import texts

CELLS = st.sampled_from(["case", "dice", "epoch", "val_dice", "train_loss", "1", "0.5", "0,5", "nan", "1e999", "", '"'])


def tables() -> st.SearchStrategy[bytes]:
    """Tables of few cells, and what is none."""
    rows = st.lists(st.lists(CELLS | st.text(max_size=4), max_size=4), max_size=4)
    joined = st.tuples(rows, st.sampled_from([",", ";", "\t"])).map(lambda made: "\n".join(map(made[1].join, made[0])))
    plain = joined.map(lambda text: text.encode("utf-8", "replace"))
    return plain | plain.map(lambda data: b"case,dice\n" + data) | plain.map(lambda data: b"epoch,val_dice\n" + data)


def record_readers(
    folder: Path, root: Path, manifest: Manifest, run: Path
) -> dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], object]]]:
    """What each reader is given, and the reader; ``root`` are scans, of which ``manifest`` and ``run`` were made."""
    archive, origin = folder / "Task06_Lung.tar", {"sha256": "0" * 64}
    with tarfile.open(archive, "w") as file:
        file.add(root, "Task06_Lung")
    tree = unpack(archive, folder / "unpacked", origin=origin)
    crossval, folds = folder / "crossval", k_fold(manifest.labelled, 2)
    crossval.mkdir()
    config = crossval_folder.describe(TINY, folds, manifest, max_minutes=0, limit_batches=0, deterministic=False)
    crossval_folder.begin(crossval, config, folds, "", manifest.root)
    chosen = crossval_folder.Chosen((0, 1), ("0" * 64,) * 2, crossval_folder.PostProcessing(0.25, 1.0, 2.0, 0.5))
    crossval_folder.write_chosen(crossval, chosen)
    mask = folder / "mask.nii.gz"
    predict(run, root / "imagesTr" / "lung_001.nii.gz", mask, device="cpu")
    prediction = json.loads(mask.with_name("mask.json").read_bytes())
    wanted = {key: value for key, value in prediction.items() if key not in ("mask", "tumours", "volume_ml")}
    levels = np.zeros((6, 5, 4), np.uint8)
    levels[1:3, 1:4, 2] = 9
    write_map(folder, "map", levels, {"of": 1}, SliceTally().as_dict())
    write_case(folder / "pictures.json", view(TUMOUR, TUMOUR))
    report = small_report(folder / "report")

    def written(name: str, data: bytes) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    def of_crossval(data: bytes) -> None:
        (crossval / "crossval.json").write_bytes(data)
        trained_on(crossval)
        crossval_folder.processed_of(crossval)
        crossval_folder.read_chosen(crossval)

    def its_folds(data: bytes) -> None:
        (crossval / "splits.json").write_bytes(data)
        crossval_folder.read_folds(crossval)

    def of_prediction(data: bytes) -> None:
        record = written("mask.json", data)
        warnings_of(mask)
        assert already_there(wanted, record, mask) is None or data

    def of_map(data: bytes) -> None:
        written("map.json", data)
        found = read_map(folder, "map", {"of": 1})
        if found is not None:
            np.testing.assert_array_equal(found[0], levels)
            SliceTally.from_dict(found[1])

    def of_pictures(data: bytes) -> None:
        path = next(patient.pictures for patient in report.patients if patient.pictures is not None)
        path.write_bytes(data)
        read_case(path)
        write_report(report, folder / "page")

    def from_json(path: Path) -> st.SearchStrategy[bytes]:
        return texts(json.loads(path.read_bytes()))

    return {
        "archive's marker": (from_json(tree / MARKER), lambda data: marker(tree, origin, data)),
        "download's note": (
            texts({"url": "https://data.example/a.tar", "validator": '"1"'}),
            lambda data: read_note(written("a.tar.part.json", data)),
        ),
        "cross-validation": (from_json(crossval / "crossval.json"), of_crossval),
        "its folds": (from_json(crossval / "splits.json"), its_folds),
        "prediction": (texts(prediction), of_prediction),
        "kept map": (from_json(folder / "map.json"), of_map),
        "pictures": (from_json(folder / "pictures.json"), of_pictures),
        "table": (tables(), lambda data: read_scores(written("table.csv", data))),
        "metrics": (tables(), lambda data: read_metrics(written("metrics.csv", data))),
    }


def marker(tree: Path, origin: dict[str, Any], data: bytes) -> None:
    """Read a tree's marker, and find every file whole that it names."""
    (tree / MARKER).write_bytes(data)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress
        damaged_files(tree, origin)

"""Files that hypothesis makes up for every reader: whatever comes, it is read or refused by an error of the package.

What it found is kept as tests of the reader it was found in.
"""

from __future__ import annotations

import copy
import gzip
import json
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lungseg import run_folder
from lungseg.checkpoint import BEST, FOLDER, load_model
from lungseg.dataset import LungDataset
from lungseg.errors import LungsegError
from lungseg.export import export, load_exported, record_of
from lungseg.held_out import native_truth
from lungseg.manifest import MANIFEST, Manifest
from lungseg.nifti import read_label, read_scan
from lungseg.slice_file import read_slice
from lungseg.splits import Split, read_splits
from lungseg.tree import read_tree
from tests.known_network import write_run
from tests.malicious_checkpoints import good, vouched_for
from tests.volumes import write_tree

from . import Figure
from .mutants import base_scans

# Numbers that headers and records are wrong about.
WHOLE = (
    st.sampled_from([0, 1, 2, 3, -1, 7, 8, 9, 255, 348, 540, 32767, -32768, 1 << 20, 1 << 31, 1 << 62]) | st.integers()
)
FRACTION = st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e38, 0.5, float("nan"), float("inf")])
TEXT = st.text(max_size=12) | st.sampled_from(["../x", "/etc/passwd", "lung_001", "images/000.npy", "\0", "\ud800", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | FRACTION | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
# Where the fields of a NIfTI-1 header are, and of what kind.
FIELDS = {
    "dim": (40, "8h"), "intent": (56, "3f"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"),
    "vox_offset": (108, "f"), "scaling": (112, "2f"), "units": (123, "b"), "forms": (252, "2h"),
    "quaternion": (256, "6f"), "srow": (280, "12f"), "magic": (344, "4s"), "extended": (348, "4b"), "size": (0, "i"),
}  # fmt: skip


@st.composite
def scans(draw: st.DrawFn) -> bytes:
    """A good file with fields, bytes or its length changed."""
    data = bytearray(draw(st.sampled_from([base for base, _ in base_scans()])))
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=3)):
        at, form = FIELDS[name]
        kind, count = form[-1], int(form[:-1] or 1)
        if kind == "s":
            struct.pack_into(f"<{form}", data, at, draw(st.binary(max_size=4)))
            continue
        limit = {"b": 7, "h": 15, "i": 31}.get(kind)
        one = FRACTION if kind == "f" else st.integers(-(1 << limit), (1 << limit) - 1) if limit else FRACTION
        size = struct.calcsize(kind)
        for place in draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3)):
            struct.pack_into(f"<{kind}", data, at + place * size, draw(one))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 40))] = draw(st.binary(max_size=40))
    return gzip.compress(bytes(data), 1) if draw(st.booleans()) else bytes(data)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """JSON with a few of its values exchanged, taken away or added."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        place = value
        while isinstance(place, (dict, list)) and place:
            key = (
                draw(st.sampled_from(sorted(place)))
                if isinstance(place, dict)
                else draw(st.integers(0, len(place) - 1))
            )
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner or draw(st.integers(0, 3)) == 0:
                how = draw(st.sampled_from(["exchange", "remove", "add"]))
                if how == "exchange":
                    place[key] = draw(VALUES)
                elif how == "remove":
                    del place[key]
                elif isinstance(place, dict):
                    place[draw(TEXT)] = draw(VALUES)
                else:
                    place.append(draw(VALUES))
                break
            place = inner
    return value


def texts(value: Any) -> st.SearchStrategy[bytes]:
    """The bytes of a JSON file: of a changed value, of any other, or of none."""
    as_bytes = st.one_of(changed(value), changed(value), VALUES).map(
        lambda made: json.dumps(made).encode("utf-8", "surrogatepass")
    )
    return as_bytes | st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))


def readers(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], object]]]:
    """What each reader is given, and the reader."""
    from lungseg.preprocess import preprocess

    from .grammar_records import record_readers

    root, processed, run = write_tree(folder / "root"), folder / "processed", folder / "run"
    manifest = preprocess(root, processed, size=16, skip_slices=2, workers=1).manifest
    write_run(run, manifest)
    shared = export(run, folder / "shared.safetensors").weights
    kept = {path: path.read_bytes() for path in (shared, record_of(shared))}
    checkpoint = (run / FOLDER / BEST).read_bytes()
    slice_bytes = (processed / "lung_001/images/004.npy").read_bytes()
    place, beside = folder / "place", folder / "records"
    place.mkdir()
    beside.mkdir()
    records = record_readers(beside, root, manifest, run)

    def written(name: str, data: bytes) -> Path:
        path = place / name
        path.write_bytes(data)
        return path

    def scan(data: bytes) -> None:
        path = written("a.nii.gz" if data[:2] == b"\x1f\x8b" else "a.nii", data)
        for read in (read_scan, read_label):
            found = read(path)
            assert np.isfinite(found.voxels).all() and found.voxels.shape == found.header.shape
            assert abs(np.linalg.det(found.affine[:3, :3])) > 1e-6

    def folder_of_slices(data: bytes) -> None:
        (processed / MANIFEST).write_bytes(data)
        found = Manifest.read(processed)
        for case in found.labelled:
            native_truth(found, case)
        dataset = LungDataset(found, found.labelled)
        dataset[0], dataset[len(dataset) - 1]
        run_folder.data_digest(found, found.labelled)

    def splits(data: bytes) -> None:
        path = written("splits.json", data)
        read_splits(path, manifest.labelled)
        Split.read(path)

    def whole_split(data: bytes) -> None:
        Split.read(written("whole.json", data))

    def weights(data: bytes) -> None:
        load_model(vouched_for(place / "a.ckpt", data))

    def shared_record(data: bytes) -> None:
        written("shared.safetensors", kept[shared])
        written("shared.json", data)
        load_exported(place / "shared.safetensors")

    def config(data: bytes) -> None:
        copy_of = place / "run"
        copy_of.mkdir(exist_ok=True)
        (copy_of / run_folder.CONFIG).write_bytes(data)
        run_folder.read_config(copy_of)
        run_folder.processed_folder(copy_of)
        run_folder.finished(copy_of)

    def description(data: bytes) -> None:
        (root / "dataset.json").write_bytes(data)
        read_tree(root)

    def one_slice(data: bytes) -> None:
        read_slice(written("a.npy", data), np.float16, 16)

    @st.composite
    def spoilt(draw: st.DrawFn, whole: bytes) -> bytes:
        data = bytearray(whole)
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(data)))
            data[at : at + draw(st.integers(0, 16))] = draw(st.binary(max_size=16))
        return bytes(data)

    def from_json(path: Path) -> st.SearchStrategy[bytes]:
        return texts(json.loads(path.read_bytes()))

    import io

    import torch

    @st.composite
    def trained(draw: st.DrawFn) -> bytes:
        content = good()
        content["hyper_parameters"] = draw(changed(content["hyper_parameters"]))
        if draw(st.booleans()):
            content[draw(st.sampled_from(sorted(content)))] = draw(VALUES)
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    return {
        "reader": (scans(), scan),
        "manifest": (from_json(processed / MANIFEST), folder_of_slices),
        "splits": (texts([{"train": ["lung_001", "lung_002"], "val": ["lung_003"]}]), splits),
        "run's split": (from_json(run / run_folder.SPLITS), whole_split),
        "checkpoint": (st.one_of(spoilt(checkpoint), trained()), weights),
        "exported weights": (from_json(record_of(shared)), shared_record),
        "run's config": (from_json(run / run_folder.CONFIG), config),
        "dataset.json": (from_json(root / "dataset.json"), description),
        "slice": (spoilt(slice_bytes), one_slice),
        **records,
    }


def made_up(seconds: float, folder: Path, start: int = 0, only: str = "", examples: int = 200) -> Figure:
    """Rounds over all readers until so much processor time is over, at least one; each round has seeds of its own."""
    figure = Figure("made_up_files", "whatever comes is read or refused by an error of the package, in under 2 s")
    ends, number, slowest = time.process_time() + seconds, 0, 0.0
    each: dict[str, int] = {}
    targets = {name: target for name, target in readers(folder).items() if only in name}
    while number == 0 or time.process_time() < ends:
        for name, (strategy, read) in targets.items():

            @seed(start + number)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )
            @given(made=strategy)
            def one(made: Any, read: Callable[[Any], object], name: str) -> None:
                nonlocal slowest
                each[name] = each.get(name, 0) + 1
                began = time.process_time()
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        read(made)
                except LungsegError as error:
                    assert "\n" not in str(error) and str(error).isprintable(), f"says {str(error)!r}"
                took = time.process_time() - began
                slowest = max(slowest, took)
                assert took < 2.0, f"took {took:.1f} s"

            try:
                one(read=read, name=name)
            except Exception as error:
                notes = " ".join(getattr(error, "__notes__", []))
                figure.check(False, f"{name}: {type(error).__name__}: {str(error)[:300]} {notes[:1500]}")
        number += 1
    figure.tried = sum(each.values())
    minutes = round((seconds + time.process_time() - ends) / 60, 1)
    figure.facts = {"processor_minutes": minutes, "rounds": number, "slowest_s": round(slowest, 2), "by_reader": each}
    return figure

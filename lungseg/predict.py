"""A scan to a mask on its own grid: the stage behind ``lungseg predict``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .cluster import cluster_executor
from .components import Tumour, tumours
from .digests import digest
from .ensemble import Ensemble, load_segmenter
from .errors import DataError, LungsegError, Problem, UsageError, all_failed
from .executor import gather, run_cases
from .files import make_folder
from .folder_lock import folder_lock
from .geometry import SliceGrid, from_las, to_las
from .inference import MaskVolume, Segmenter
from .nifti import read_label, read_scan, write_mask
from .nifti_names import case_name, is_nifti
from .pairs import hu_warnings
from .place import local, place
from .postprocess import PostProcessing, calibrated, drop_components
from .prediction_record import Predicted, Prediction, already_there, record_start, sealed, tumour_entry
from .progress import progress
from .records import read_json, refuse_other_record, write_json
from .report.case_file import CaseView
from .report.from_prediction import remove_stale_page, write_prediction_page
from .seen_scans import trained_on, trained_on_warning
from .skip_slices import check_skip
from .slicing import skipped_slices, slice_image, slice_room
from .tree import Tree, is_data_name, read_tree
from .worker_network import WorkerNetwork

if TYPE_CHECKING:
    from concurrent.futures import Executor

STAGE = "predict"


@dataclass(frozen=True)
class _Job:
    """What is the same for every scan of a call; ``segmenter`` loaded, or to be loaded by each worker."""

    segmenter: Segmenter | Ensemble | WorkerNetwork
    settings: PostProcessing
    show_slices: bool
    report: bool
    seen: dict[str, str]


def predict(
    run: str | Path,
    scan: str | Path,
    out: str | Path,
    *,
    threshold: float | None = None,
    smallest_ml: float | None = None,
    smallest_share: float | None = None,
    temperature: float | None = None,
    checkpoint: str = "best",
    skip_slices: str | int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    report: bool = False,
    cluster: str | None = None,
) -> Predicted:
    """Segment a scan, or every scan of a folder.

    Writes a mask (uint8 NIfTI, 0 and 1) on the scan's own grid, affine and orientation, with a fresh header, and beside
    it a JSON file of the same name with the tumours (``volume_ml``, longest axial ``diameter_mm``, first and last of
    the ``slices``, counted from the feet, ``mean_probability``), the model and the settings.  Nothing of the scan's
    header but its grid is copied.

    Of a cross-validated run the ensemble of its folds is used (:mod:`lungseg.ensemble`), with the threshold, kept
    components and temperature that were chosen on its out-of-fold predictions.

    Args:
        run: folder of a run, or weights of :func:`lungseg.export.export` (``.safetensors``).
        scan: a NIfTI file, or a folder in one of the layouts of :mod:`lungseg.tree`; never changed.
        out: the mask's file, or for a folder of scans the folder for ``<case>.nii.gz``.  Scans of a folder whose mask
            is there already, made from the same scan by the same model and settings, are left as they are.
        threshold: a voxel is tumour where its probability, before the temperature, is above; None is what the
            cross-validation chose, 0.5 for a run of one fold.
        smallest_ml: connected tumours of less volume are dropped, millilitres; None likewise, or 0.
        smallest_share: connected tumours are dropped whose probabilities add up to less than this share of what those
            of the heaviest do, 0 to 1; None likewise, or 0.
        temperature: what the logits of the probabilities that are reported are divided by; None likewise, or 1.
        checkpoint: ``best`` or ``last``.
        skip_slices: axial slices at the feet end that are not looked at, as in ``preprocess``; None for what the
            network was trained with.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: slices at a time; None chooses by device.
        report: also write a page to look at, ``<name>.html`` beside the mask: every tumour with a picture, and all
            slices to scroll through.
        cluster: for a folder of scans, address of a Dask scheduler whose workers do it (``docs/clusters.md``).

    Raises:
        UsageError: an argument can not be meant; ``out`` would overwrite the scan, or its JSON that of something else.
        DataError: the scan is bad (for a folder: no scan at all could be segmented).
        IntegrityError: the checkpoint or weights file is refused.
        MachineError: memory, disk or device fail, or another process writes to ``out``.
    """
    scan, out = place(scan), place(out)
    given = {
        "threshold": threshold,
        "smallest_ml": smallest_ml,
        "smallest_share": smallest_share,
        "temperature": temperature,
    }
    asked = {name: float(value) for name, value in given.items() if value is not None}
    PostProcessing(**asked)  # refused before anything is read
    here = device if cluster is None else "cpu"  # this machine then only looks whether it is a network
    segmenter, settings = load_segmenter(local(run), checkpoint=checkpoint, device=here, batch_size=batch_size)
    settings = replace(settings, **asked)
    if skip_slices is not None:
        segmenter = replace(segmenter, config=replace(segmenter.config, skip_slices=check_skip(str(skip_slices))))
    job = _Job(segmenter, settings, show_slices=not scan.is_dir(), report=report, seen=trained_on(run))
    if scan.is_dir():
        if cluster is not None:
            there = WorkerNetwork.of(segmenter, run, checkpoint=checkpoint, device=device, batch_size=batch_size)
            job = replace(job, segmenter=there)
        with cluster_executor(cluster, device=device, names=(run, scan, out)) as executor:
            return _folder(read_tree(scan), out, job, executor)
    if cluster is not None:
        mend = "Name a folder of scans, or leave --cluster out."
        raise UsageError.of("one-scan", "a single scan is not given to a cluster", file=scan, mend=mend)
    _check_names(scan, out)
    make_folder(out.parent)
    try:
        prediction, warned = _one_scan(job, (scan, out))
    except LungsegError as error:
        error.stage = error.stage or STAGE
        raise
    return Predicted((prediction,), tuple(warned))


def _folder(tree: Tree, out: Path, job: _Job, executor: Executor | None) -> Predicted:
    root = tree.root.resolve()
    if is_nifti(out):
        what, mend = "is the name of one mask, and there is a folder of scans", "Name a folder for their masks."
        raise UsageError.of("file-for-folder", what, expected="a folder", file=out, mend=mend)
    if out.resolve() == root or root in out.resolve().parents:
        raise UsageError.of(
            "out-in-root",
            "the output folder lies inside the folder of scans",
            file=out,
            mend="Name a folder outside it: the data folder is never changed.",
        )
    tasks = {case.name: (case.image, out / f"{case.name}.nii.gz") for case in tree.cases}
    with folder_lock(out, stage=STAGE):
        outcomes = run_cases(partial(_one_scan, job), tasks, workers=1, executor=executor)
        done = gather(progress(outcomes, what="segmenting", total=len(tasks), unit="scan"))
    problems = [*tree.problems, *done.problems]
    problems += [problem for _, warned in done.results.values() for problem in warned]
    problems.sort(key=lambda problem: (problem.case, problem.file, problem.code))
    code = max(done.exit_code, tree.exit_code)
    if not done.results:
        raise all_failed(problems, code, STAGE)
    return Predicted(tuple(prediction for prediction, _ in done.results.values()), tuple(problems), code)


def _check_names(scan: Path, out: Path) -> None:
    if not scan.is_file():
        raise UsageError.of("missing-file", "there is no such scan", file=scan, mend="Name a NIfTI file or a folder.")
    if not is_nifti(out):
        raise UsageError.of(
            "bad-suffix", "a mask is written as NIfTI", expected="a name that ends in .nii.gz or .nii", file=out
        )
    if out.exists() and is_data_name(out):
        mend = "Choose another name: the data folder is never changed."
        raise UsageError.of(
            "out-is-data", "the mask would overwrite a scan or label of a data set", file=out, mend=mend
        )
    if out.resolve() == scan.resolve():
        raise UsageError.of("out-is-scan", "the mask would overwrite the scan", file=out, mend="Choose another name.")
    if out.is_dir():
        raise UsageError.of("not-a-file", "is a folder, where the mask's file is wanted", file=out)


def _one_scan(job: _Job, paths: tuple[Path, Path]) -> tuple[Prediction, list[Problem]]:
    """Segment one scan into its file, unless that is there already; the JSON is written last."""
    source, out = paths
    record_path, page = (out.with_name(f"{case_name(out)}{suffix}") for suffix in (".json", ".html"))
    refuse_other_record(record_path, ("notice", "case", "mask"))
    segmenter = job.segmenter.load() if isinstance(job.segmenter, WorkerNetwork) else job.segmenter
    scan = read_scan(source)
    found_odd = (*scan.warnings, *hu_warnings(scan), *trained_on_warning(scan.hash, job.seen, source))
    warned = [problem.at(case=scan.name) for problem in found_odd]
    las, las_affine, orientation = to_las(scan.voxels, scan.affine)
    spacing_mm = tuple(float(size) for size in np.linalg.norm(las_affine[:3, :3], axis=0))
    try:
        skipped = skipped_slices(las, spacing_mm, segmenter.config)
    except DataError as error:
        raise DataError(error.problem.at(file=source), error.stage) from error
    record = record_start(
        scan,
        orientation.codes,
        model=segmenter.description,
        config=segmenter.config,
        settings=job.settings,
        skipped=skipped,
        warned=warned,
    )
    grid = SliceGrid.of(las.shape, spacing_mm, segmenter.config.size)

    def prediction(mask: np.ndarray, parts: tuple[Tumour, ...]) -> Prediction:
        """With the page, if one is wanted; ``mask`` is ``[L, A, S]``."""
        if job.report:
            view = CaseView(
                image=lambda z: slice_image(las, z, grid, segmenter.config),
                shown=range(skipped, las.shape[2]),
                grid=grid,
                spacing_mm=(spacing_mm[0], spacing_mm[1], spacing_mm[2]),
                found=mask,
            )
            write_prediction_page(page, record, view)
        return Prediction(scan.name, out, record_path, parts, page if job.report else None)

    if (there := already_there(record, record_path, out)) is not None:
        record = read_json(record_path, error=DataError)
        return prediction(to_las(read_label(out).voxels, scan.affine)[0] if job.report else las, there), warned
    remove_stale_page(page)
    volume = MaskVolume(las.shape, grid, job.settings.threshold)
    shown = range(skipped, las.shape[2])
    room = slice_room(las)
    images = (slice_image(las, z, grid, segmenter.config, room) for z in shown)
    found = segmenter.probabilities(images, shown, spacing_mm[2])
    if job.show_slices:
        found = progress(found, what="segmenting", total=len(shown), unit="slice")
    for z, probability in zip(shown, found, strict=True):
        volume.put(z, probability)
    drop_components(volume.mask, volume.probability, job.settings, float(np.prod(spacing_mm)) / 1000.0)
    probability = calibrated(volume.probability, job.settings.temperature)
    parts = tuple(tumours(volume.mask, (spacing_mm[0], spacing_mm[1], spacing_mm[2]), probability))
    write_mask(out, from_las(volume.mask, orientation), scan)
    record["mask"] = {"file": out.name, "hash": digest(out.read_bytes())}
    record["tumours"] = [tumour_entry(part) for part in parts]
    record["volume_ml"] = round(sum(part.volume_ml for part in parts), 6)
    write_json(record_path, sealed(record))
    return prediction(volume.mask, parts), warned

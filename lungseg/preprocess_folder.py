"""The folder that ``preprocess`` writes: whether it may, what of an earlier run it keeps, and what it removes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .case_files import remove_case
from .case_record import CASE_RECORD
from .config import PreprocessConfig, to_dict
from .errors import DataError, LungsegError, UsageError
from .files import TEMPORARY_PREFIX
from .folder_lock import LOCK_NAME
from .manifest import FORMAT, MANIFEST, Manifest, settings_from
from .records import check_format, read_json
from .tree import Tree


def refuse_elsewhere(out: Path, tree: Tree) -> None:
    """Raise :class:`UsageError` where what is written would not lie in a folder beside the data alone."""
    data, target = tree.root.resolve(), out.resolve()
    if data == target or data in target.parents or target in data.parents:
        # The other way round, a case's folder below `out` could be the data folder itself.
        raise UsageError.of(
            "out-in-root",
            "the output folder and the data folder lie one in the other",
            file=out,
            mend="Name a folder beside the data folder, which is never changed.",
        )
    for link in (out / case.name for case in tree.cases if (out / case.name).is_symlink()):
        what, found = "is a link: slices would be written over what it leads to", f"a link to {link.readlink()}"
        raise UsageError.of("case-link", what, expected="a folder", found=found, file=link, mend="Take it away.")


def refuse_others(out: Path, config: PreprocessConfig, tree: Tree) -> None:
    """Refuse a folder made with other settings, from other cases, by a later version or by something else."""
    mend = "Choose another output folder, or give --rebuild to make everything again."
    records = sorted(out.glob(f"*/{CASE_RECORD}"))
    for path in [out / MANIFEST, *records]:
        if not path.is_file():
            continue
        try:
            content = read_json(path, error=DataError)
        except LungsegError:
            continue  # damaged: it is made again
        check_format(content, FORMAT, path)
        try:
            found = settings_from(content["settings"], path)
        except (LungsegError, KeyError, TypeError):
            continue  # damaged: it is made again
        if found != config:
            differing = [key for key, value in to_dict(config).items() if to_dict(found)[key] != value]
            raise UsageError.of(
                "other-settings",
                "the folder was made with other settings",
                file=out,
                mend=mend,
                expected=", ".join(f"{key} {to_dict(config)[key]}" for key in differing),
                found=", ".join(f"{key} {to_dict(found)[key]}" for key in differing),
            )
    known = {case.name for case in tree.cases} | {problem.case for problem in tree.problems}
    strangers = sorted(path.parent.name for path in records if path.parent.name not in known)
    if strangers:
        raise UsageError.of(
            "other-cases",
            "the folder holds cases that are not in the data folder",
            file=out,
            mend=mend,
            found=", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else ""),
        )
    if not records and any(path.name not in (LOCK_NAME, MANIFEST) for path in _foreign(out, known)):
        raise UsageError.of(
            "foreign-folder",
            "the output folder holds other files",
            file=out,
            mend="Choose a new or empty output folder.",
        )


def _foreign(out: Path, known: set[str]) -> Iterator[Path]:
    there = out.iterdir() if out.is_dir() else iter(())  # a store has no empty folders
    return (path for path in there if path.name not in known and not path.name.startswith(TEMPORARY_PREFIX))


def clear_others(out: Path, done: set[str]) -> None:
    """Remove case folders of an earlier run that are not part of this one (only what this stage itself wrote)."""
    for path in out.glob(f"*/{CASE_RECORD}"):
        if path.parent.name not in done:
            remove_case(path.parent)


def recorded_slice_sets(out: Path) -> bool:
    """What the manifest that stands there says of the stacks: a rerun must not forget that they have gaps."""
    try:
        return Manifest.read(out).slice_sets
    except LungsegError:
        return False

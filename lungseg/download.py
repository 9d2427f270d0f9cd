"""Task06_Lung from where it is published: fetched, checked against its published hashes, unpacked, marked as whole."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .archive import damaged_files, unpack
from .archive_plan import LIMITS, ROOT
from .errors import IntegrityError, Problem, UsageError, printable
from .fetch import PATIENCE, Patience, fetch, note_of, part_of, size_of, was_fetched
from .files import machine_error, require_free_space
from .folder_lock import folder_lock
from .kaggle_client import fetch_kaggle
from .place import local
from .progress import byte_bar
from .web import check_address

_CHUNK = 1 << 20
_OTHER_ARCHIVE = ("wrong-length", "hash-mismatch")


@dataclass(frozen=True)
class ArchiveFacts:
    """What is published about an archive.

    Args:
        name: what it is called.
        url: where it is.
        bytes: its size; None where it is not known.
        md5: hex; empty where it is not known.
        sha256: hex; empty where it is not known, and then nothing is checked.
        licence: of the data.
        citation: what to cite.
    """

    name: str
    url: str
    bytes: int | None
    md5: str
    sha256: str
    licence: str
    citation: str


# Size, address and md5 as published with the Medical Segmentation Decathlon's copy at AWS (MONAI's apps/datasets.py has
# the same md5); the sha256 comes from a third party.
TASK06 = ArchiveFacts(
    name="Task06_Lung.tar",
    url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task06_Lung.tar",
    bytes=9_163_696_640,
    md5="8afd997733c7fc0432f71255ba4e52dc",
    sha256="f782cd09da9cf7a3128475d4a53650d371db10f0427aa76e166fccfcb2654161",
    licence="CC-BY-SA 4.0",
    citation="Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022)",
)


def download(
    out: str | Path,
    *,
    source: str | Path = "aws",
    sha256: str | None = None,
    keep_archive: bool = False,
    wait_s: float = 0.0,
    expected: ArchiveFacts = TASK06,
    patience: Patience = PATIENCE,
) -> Path:
    """Fetch, check and unpack Task06_Lung; what was cut off goes on where it was, what is finished is not repeated.

    Args:
        out: folder in which ``Task06_Lung/`` is made.
        source: ``aws``; ``kaggle:OWNER/NAME``; an ``https://`` address; or an archive on this machine (``.tar``,
            ``.tar.gz``, ``.zip``).
        sha256: hex digest of the archive, where it is another than the published one; it is checked instead.
        keep_archive: keep the fetched archive beside the tree; an archive of the user's own is never removed.
        wait_s: seconds to wait for another download into the same folder to end.
        expected: what is published about the archive.
        patience: how long to wait for a bad line.

    Returns:
        The tree, ``out/Task06_Lung``.

    Raises:
        IntegrityError: what came is not the archive, or it could do harm; nothing is unpacked then.
        MachineError: network, disk or lock.
        UsageError: a source or digest that can not be meant, or a tree of another archive is in the way.
    """
    out, source = local(out), str(source)
    if "://" in source:
        check_address(source)
    facts = _facts(source, sha256, expected)
    with folder_lock(out, stage="download", wait_s=wait_s):
        try:
            return _download(out, source, facts, keep_archive, patience)
        except OSError as cause:
            raise machine_error(cause, out) from cause


def _facts(source: str, sha256: str | None, expected: ArchiveFacts) -> ArchiveFacts:
    if sha256 is not None:
        sha256 = sha256.strip().lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise UsageError(Problem("bad-digest", "is no SHA-256", expected="64 hexadecimal digits", found=sha256))
        return replace(expected, bytes=None, md5="", sha256=sha256)
    if source.startswith("kaggle:"):
        return replace(expected, bytes=None, md5="", sha256="")
    return expected


def _download(out: Path, source: str, facts: ArchiveFacts, keep_archive: bool, patience: Patience) -> Path:
    root = out / ROOT
    kaggle = source.startswith("kaggle:")
    # What a tree is told apart by; a Kaggle dataset has no digest that is known beforehand.
    origin: dict[str, Any] = {"sha256": facts.sha256} if facts.sha256 else {"kaggle": source.removeprefix("kaggle:")}
    damaged = damaged_files(root, origin)
    if damaged == []:
        _say(f"{printable(root)} is there and whole")
        return root
    if damaged:
        _say(f"{len(damaged)} files are missing or damaged ({damaged[0]}), so the archive is needed again")
    archive, ours = _archive_in_hand(out, source, facts, patience)
    try:
        _check(archive, facts, ours)
        if not facts.sha256:
            _say("Kaggle publishes no digest of the dataset: it is checked by names, sizes and CRC only")
        unpack(archive, out, origin=origin, any_root=kaggle)
    except IntegrityError as error:
        # Else every later call would find it again; an archive of the right digest would only come again.
        if ours and (not facts.sha256 or error.problem.code in _OTHER_ARCHIVE):
            _remove(archive)
        raise
    if ours and not keep_archive:
        _remove(archive)
    _say(f"{printable(root)} is ready ({facts.licence}; cite {facts.citation})")
    return root


def _archive_in_hand(out: Path, source: str, facts: ArchiveFacts, patience: Patience) -> tuple[Path, bool]:
    """The archive's file, and whether it was fetched here, by this call or one that was cut off."""
    if source.startswith("kaggle:"):
        return fetch_kaggle(source.removeprefix("kaggle:"), out), True
    if source != "aws" and "://" not in source:
        path = Path(source)
        if path.is_dir():
            mend = "If it is the unpacked dataset, it needs no download: try `lungseg verify` on it."
            raise UsageError(Problem("is-a-folder", "is a folder, not an archive", file=source, mend=mend))
        if not path.exists():
            what, forms = "there is no such file or source", "aws, kaggle:OWNER/NAME, https://... or an archive's path"
            raise UsageError(Problem("no-such-source", what, expected=forms, file=source))
        return path, False
    target = out / facts.name
    if not target.exists():
        # The archive and what it unpacks to, which is no more, because a tar of .nii.gz does not shrink.
        require_free_space(out, 2 * (facts.bytes or 0) - size_of(part_of(target)), stage="download")
        url = facts.url if source == "aws" else source
        fetch(url, target, size=facts.bytes, most=LIMITS.total_bytes, patience=patience)
    return target, was_fetched(target)


def _remove(archive: Path) -> None:
    archive.unlink(missing_ok=True)
    note_of(archive).unlink(missing_ok=True)


def _check(archive: Path, facts: ArchiveFacts, ours: bool) -> None:
    """Refuse an archive that is not the one of the facts; both digests, expected and found, are in the message."""
    try:
        size = archive.stat().st_size
        if facts.bytes is not None and size != facts.bytes:
            raise _other_archive(archive, ours, "wrong-length", f"{facts.bytes} bytes", f"{size} bytes")
        if not facts.sha256:
            return
        hashers = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with open(archive, "rb") as file, byte_bar(size, what="check") as bar:
            while chunk := file.read(_CHUNK):
                for hasher in hashers:
                    hasher.update(chunk)
                bar.update(len(chunk))
    except OSError as cause:
        raise machine_error(cause, archive) from cause
    found_sha256, found_md5 = (hasher.hexdigest() for hasher in hashers)
    if found_sha256 != facts.sha256 or facts.md5 not in ("", found_md5):
        expected = f"sha256 {facts.sha256}" + (f", md5 {facts.md5}" if facts.md5 else "")
        raise _other_archive(archive, ours, "hash-mismatch", expected, f"sha256 {found_sha256}, md5 {found_md5}")


def _other_archive(archive: Path, ours: bool, code: str, expected: str, found: str) -> IntegrityError:
    what = "is not the archive that is published; nothing was unpacked"
    anew = "It was removed: run the same command again" if ours else "Remove it and get it anew"
    mend = f"{anew}; or, if it is another archive that you trust, give its digest with --sha256."
    return IntegrityError(Problem(code, what, expected, found, mend, str(archive)))


def _say(text: str) -> None:
    print(f"download: {text}", file=sys.stderr, flush=True)

"""What is to be unpacked from an archive; found out before anything is written.

What could harm (a path that leaves the folder, a link, a device, a setuid bit, a name twice, more or larger files than
a dataset of this kind has) refuses the whole archive; harmless files of other names are left out and counted.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .archive_members import FILE, FOLDER, Member, Reader, faults_as_refusals, refusal, zip_members
from .archive_tar import tar_members
from .errors import IntegrityError, printable

ROOT = "Task06_Lung"
SUBFOLDERS = ("imagesTr", "imagesTs", "labelsTr")
# [0-9], because \d matches the digits of every script.
_WANTED = re.compile(r"(?:(?:imagesTr|imagesTs|labelsTr)/lung_[0-9]{3}\.nii\.gz|dataset\.json)")


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; Task06_Lung has 159 wanted files, 9.2 GB, none of them over 0.3 GB.

    Args:
        files: wanted files.
        file_bytes: bytes of one member, unpacked.
        total_bytes: bytes of all members, unpacked.
    """

    files: int = 200
    file_bytes: int = 2_000_000_000
    total_bytes: int = 20_000_000_000


LIMITS = Limits()


@dataclass
class Plan:
    """What is to be unpacked.

    Args:
        wanted: the member's name as the archive writes it -> (its path below the root, its bytes).
        macos: how many files of macOS (``._*``, ``.DS_Store``) are left out.
        others: names of the other files that are left out.
    """

    wanted: dict[str, tuple[str, int]] = field(default_factory=dict)
    macos: int = 0
    others: list[str] = field(default_factory=list)

    @property
    def total_bytes(self) -> int:
        return sum(size for _, size in self.wanted.values())


def plan_of(path: str | Path, *, limits: Limits = LIMITS, any_root: bool = False) -> Plan:
    """Look at every member of the archive; writes nothing.

    Args:
        path: a ``.tar``, ``.tar.gz`` or ``.zip``.
        limits: what it may hold.
        any_root: take the dataset from whatever folder of the archive it is in (Kaggle's archives differ), not only
            from ``Task06_Lung/``.

    Raises:
        IntegrityError: the archive is damaged, holds something harmful, or holds no Task06_Lung.
    """
    path = Path(path)
    plan = Plan()
    seen: set[tuple[bool, str]] = set()
    total = 0
    for member, _ in read_members(path):
        name = _safe_name(member, path)
        target = _target(name, any_root)
        if member.kind == FOLDER and target is None:
            continue
        if member.kind != FILE:
            raise _harmful("member-type", f"a member is a {member.kind}", member, path, expected="plain files only")
        total += member.size
        if member.size > limits.file_bytes or total > limits.total_bytes:
            raise _harmful(
                "too-large",
                "the archive would unpack to more than a dataset of this kind has",
                member,
                path,
                expected=f"at most {limits.file_bytes} bytes a file and {limits.total_bytes} in all",
            )
        key = (target is not None, target or name)
        if key in seen:
            raise _harmful("duplicate-member", "a member stands in the archive twice", member, path)
        seen.add(key)
        if target is not None:
            plan.wanted[member.name] = (target, member.size)
        elif _is_macos(name):
            plan.macos += 1
        else:
            plan.others.append(name)
        if len(plan.wanted) > limits.files:
            raise _harmful("too-many-members", "too many files", member, path, expected=f"at most {limits.files}")
    if (True, "dataset.json") not in seen:
        raise refusal(
            "no-task06", "the archive holds no Task06_Lung", path, expected=f"{ROOT}/dataset.json", found="none"
        )
    return plan


def read_members(path: Path) -> Iterator[tuple[Member, Reader]]:
    """All members in the order of the archive, each with a reader of its content (which need not be read).

    Raises:
        IntegrityError: the archive is truncated, damaged, or of no kind known here.
    """
    with faults_as_refusals(path), open(path, "rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic[:2] == b"PK":
            yield from zip_members(file, path)
        elif magic[:2] == b"\x1f\x8b":
            with gzip.open(file) as inflated:
                yield from tar_members(inflated, path)
        else:
            yield from tar_members(file, path)


def _safe_name(member: Member, path: Path) -> str:
    """The member's name without ``./`` and a folder's closing ``/``; refuses what could leave the folder or mislead."""
    name = member.name
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        raise _harmful("unsafe-path", "a member would be written outside the folder", member, path)
    if not name or "\\" in name or printable(name) != name:
        raise _harmful("unsafe-path", "a member's name is empty or holds control characters or \\", member, path)
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _target(name: str, any_root: bool) -> str | None:
    """Where the member belongs below the root; None where it is not wanted."""
    if any_root:
        parts = name.split("/")
        tail = "/".join(parts[-2:]) if len(parts) > 1 and parts[-2] in SUBFOLDERS else parts[-1]
        return tail if _WANTED.fullmatch(tail) else None
    inside = name.removeprefix(f"{ROOT}/")
    return inside if inside != name and _WANTED.fullmatch(inside) else None


def _is_macos(name: str) -> bool:
    return any(part.startswith("._") or part in (".DS_Store", "__MACOSX") for part in name.split("/"))


def _harmful(code: str, what: str, member: Member, path: Path, *, expected: str = "") -> IntegrityError:
    return refusal(code, what, path, expected=expected, found=f"{member.name[:200]!r}, {member.size} bytes")

"""A folder tree in an archive's place: an unpacked copy that is used where it lies."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagenet_etl.archives.member import Member, safe_name
from imagenet_etl.errors import ArchiveChanged, BadArchive, UnexpectedMember, UnsafeMember

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


def list_folder(root: Path, archive: str) -> Iterator[Member]:
    """Yield the regular files below a folder, sorted by their whole names.

    Args:
        root: The folder.
        archive: The name it goes by, for errors.

    Raises:
        UnsafeMember: A file is a link or device, or has an unsafe name.
        UnexpectedMember: Two names in one folder differ in case alone.
        BadArchive: A folder vanished meanwhile.
    """
    yield from _below(root, "", archive)


def _below(root: Path, prefix: str, archive: str) -> Iterator[Member]:
    try:
        with os.scandir(root / prefix) as scanned:
            # With the slash that will follow a folder's name, the order is that of whole names.
            entries = sorted(
                scanned, key=lambda e: f"{e.name}{'/' * e.is_dir(follow_symlinks=False)}"
            )
    except (FileNotFoundError, NotADirectoryError):
        raise BadArchive(
            f"{archive}: {root / prefix} vanished while it was listed",
            remedy="Run again when it is at rest",
        ) from None
    _check_case([entry.name for entry in entries], prefix, archive)
    for entry in entries:
        name = prefix + safe_name(os.fsencode(entry.name), archive)
        state = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(state.st_mode):
            yield from _below(root, f"{name}/", archive)
        elif stat.S_ISREG(state.st_mode):
            size = state.st_size
            yield Member(name, 0, 0, size, size, check=state.st_mtime_ns)
        else:
            raise _no_file(f"{archive}: {name}", state.st_mode)


def _check_case(names: list[str], prefix: str, archive: str) -> None:
    """Compare a folder's names case-blind: some file systems would take two of them for one.

    Folder by folder, so that memory does not follow the files of the whole tree.
    """
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise UnexpectedMember(
                f"{archive}: {prefix}{name} appears twice",
                found=f"{other} beside it, which differs in case alone",
                remedy="Remove or rename one of them",
            )


def _no_file(what: str, mode: int) -> UnsafeMember:
    if stat.S_ISLNK(mode):
        return UnsafeMember(
            f"{what} is not a regular file",
            found="a symbolic link",
            remedy="Give the folder it leads to as a source, or put a copy in the link's place",
        )
    return UnsafeMember(
        f"{what} is not a regular file", found=f"mode {mode:o}", remedy="Remove it from the folder"
    )


@dataclass(frozen=True)
class FolderState:
    """What a folder holds, in short.

    Attributes:
        size: Bytes of all files.
        listing_sha256: SHA-256 over the lines ``path<TAB>size``, sorted.
        tag: SHA-256 over the same with each file's mtime: it changes when a file may have.
    """

    size: int
    listing_sha256: str
    tag: str


def folder_state(root: Path, archive: str) -> FolderState:
    """Look at every file below a folder, without reading it.

    Raises:
        UnsafeMember, UnexpectedMember: As for ``list_folder``.
    """
    listing, tags, total = hashlib.sha256(), hashlib.sha256(), 0
    for member in list_folder(root, archive):
        listing.update(f"{member.name}\t{member.size}\n".encode())
        tags.update(f"{member.name}\t{member.size}\t{member.check}\n".encode())
        total += member.size
    return FolderState(total, listing.hexdigest(), tags.hexdigest())


def read_folder_member(root: Path, member: Member) -> bytes:
    """Read a file that still has the size and mtime of the index, before and after.

    Raises:
        ArchiveChanged: It has not.
    """
    path = root / member.name
    try:
        fd = os.open(path, OPEN_FLAGS)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError) and not path.is_symlink():
            raise
        raise file_changed(path, "nothing" if not path.is_symlink() else "a link") from error
    with os.fdopen(fd, "rb", buffering=0) as file:
        _check(path, os.fstat(fd), member)
        data = file.read(member.size) if member.size else b""
        while len(data) < member.size and (more := file.read(member.size - len(data))):
            data += more
        _check(path, os.fstat(fd), member)
    if len(data) != member.size:
        raise file_changed(path, f"{len(data):,} bytes")
    return data


def _check(path: Path, state: os.stat_result, member: Member) -> None:
    if not stat.S_ISREG(state.st_mode) or (state.st_size, state.st_mtime_ns) != (
        member.size,
        member.check,
    ):
        raise file_changed(path, f"{state.st_size:,} bytes, mtime {state.st_mtime_ns} ns")


def file_changed(path: Path, found: str) -> ArchiveChanged:
    """Return the error for a file of a folder that is no longer the one of the index."""
    return ArchiveChanged(
        f"{path} changed since it was indexed",
        found=found,
        remedy="Run again to index it anew; leave the folder alone while a run uses it",
    )


def will_need_file(path: Path) -> None:
    """Have a file read ahead; one that is gone is noticed when it is read."""
    with suppress(OSError):
        fd = os.open(path, OPEN_FLAGS)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)

"""Durable files on a local file system: fsync, no-replace publishing, free space, typed errors."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from itertools import cycle
from pathlib import Path
from typing import Any

from imagenet_etl.errors import KeyExists, NotEnoughSpace, NotWritable, SchemaTooNew

CHUNK_BYTES = 1 << 20
_BLOCK_BYTES, _THREADED_BYTES = 8 << 20, 32 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_NO_CLONES = {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL, errno.EXDEV}
_FICLONE = 0x40049409  # linux/fs.h, man page ioctl_ficlone(2)
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def fsync_file(path: Path) -> None:
    """Force the file's bytes to the disk."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Force the folder's entries to the disk, without which a rename may be lost."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(folder: Path) -> None:
    """Flush the whole file system that holds ``folder``: one call for thousands of small files."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):  # not Linux
        os.sync()
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(fd)


def drop_from_cache(paths: Iterable[str]) -> None:
    """Free the memory that flushed files take in the page cache; files that are gone are no matter.

    The pages are hot and go to the files that are written next. New ones cost far more: the kernel
    clears them, and under a hypervisor each that was never touched is a fault on the host.
    """
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def publish_file(staged: Path, final: Path) -> None:
    """Give a finished file its final name: flushed, atomically and without ever replacing.

    A hard link is the one portable call that fails when the name exists.

    Raises:
        KeyExists: ``final`` exists; ``staged`` is left for the caller.
        NotWritable: The file system has no hard links, or the two lie on different ones.
    """
    fsync_file(staged)
    make_folders(final.parent)
    try:
        os.link(staged, final)
    except FileExistsError:
        # NFS repeats a call whose reply was lost, and is then told that its own link exists.
        if not final.exists() or not staged.samefile(final):
            raise KeyExists(
                f"{final} exists already", remedy="Published files never change"
            ) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise NotWritable(
            f"{final.parent} cannot hold hard links, which safe publishing needs",
            found=os.strerror(error.errno or 0),
            remedy="Keep the data folder on one POSIX file system (ext4, XFS, Lustre, NFS)",
        ) from error
    staged.unlink()
    fsync_folder(final.parent)


def publish_folder(staged: Path, final: Path) -> None:
    """Give a finished folder its final name in one rename, flushed before and after.

    Raises:
        KeyExists: ``final`` exists and is no empty folder.
    """
    make_folders(final.parent)
    sync_filesystem(staged)
    try:
        staged.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise KeyExists(
            f"{final} exists already", remedy="Published versions never change"
        ) from None
    fsync_folder(final.parent)
    fsync_folder(staged.parent)


def clone_file(source: int, target: int) -> bool:
    """Let an empty open file share the blocks of another one, until either is written to.

    Args:
        source: Descriptor that is open for reading.
        target: Descriptor that is open for writing.

    Returns:
        Whether it was done; False where the file systems cannot, and nothing has changed.

    Raises:
        OSError: Any other trouble, such as a full disk.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_CLONES:
            return False
        raise
    return True


def make_folders(path: Path) -> None:
    """Create ``path`` and its parents, and flush each new entry.

    Raises:
        NotWritable: A parent is a file, is read-only, or belongs to someone else.
    """
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    with typed_os_errors(str(path)):
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            fsync_folder(folder.parent)


def check_space(folder: Path, needed_bytes: int, needed_files: int = 0) -> None:
    """Refuse early when the file system of ``folder`` cannot take what is about to be written.

    Raises:
        NotEnoughSpace: Fewer free bytes, or fewer free inodes, than needed.
    """
    while not folder.exists():
        folder = folder.parent
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize
    if free < needed_bytes:
        raise NotEnoughSpace(
            f"{folder} is too full",
            expected=f"{needed_bytes / 1e6:,.1f} MB free",
            found=f"{free / 1e6:,.1f} MB",
            remedy="Free some space or choose another data folder",
        )
    # File systems that make inodes on demand (XFS, Btrfs) report zero of them in all.
    if state.f_files and state.f_favail < needed_files:
        raise NotEnoughSpace(
            f"{folder} has too few inodes",
            expected=f"{needed_files:,} free",
            found=f"{state.f_favail:,}",
            remedy="Leave the ImageFolder format out, or make the file system with more inodes",
        )


@contextmanager
def typed_os_errors(place: str) -> Iterator[None]:
    """Turn a full disk or a refused write into a typed error that names the path or ``place``."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or place
        if error.errno in _FULL:
            raise NotEnoughSpace(
                f"{where} could not be written, the disk is full",
                remedy="Free some space and run again; finished work is kept",
            ) from error
        if error.errno in _REFUSED:
            raise NotWritable(
                f"{where} cannot be used",
                found=os.strerror(error.errno or 0),
                remedy="Check the folder's owner and mount, or choose another data folder",
            ) from error
        if error.errno == errno.EIO:
            raise NotWritable(
                f"{where} gives input/output errors", remedy="Check the disk's health"
            ) from error
        raise


def hash_file(path: Path, *algorithms: str) -> dict[str, str]:
    """Return hex digests of a file, all taken in one read of it."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb", buffering=0) as file:
        if len(hashes) > 1 and path.stat().st_size > _THREADED_BYTES:
            _hash_in_threads(file, list(hashes.values()))
            return {name: state.hexdigest() for name, state in hashes.items()}
        buffer = bytearray(CHUNK_BYTES)
        view = memoryview(buffer)
        while count := file.readinto(buffer):
            for state in hashes.values():
                state.update(view[:count])
    return {name: state.hexdigest() for name, state in hashes.items()}


def _hash_in_threads(file: FileIO, hashes: list[hashlib._Hash]) -> None:
    """Update each hash in a thread of its own, while the next block is read.

    Hashing does not hold Python's lock, so the slowest hash decides the speed.
    """
    buffers = cycle((bytearray(_BLOCK_BYTES), bytearray(_BLOCK_BYTES)))
    running: list[Future[None]] = []
    with ThreadPoolExecutor(len(hashes)) as pool:
        for buffer in buffers:
            count = file.readinto(buffer)
            for update in running:
                update.result()
            if not count:
                return
            block = memoryview(buffer)[:count]
            running = [pool.submit(state.update, block) for state in hashes]


def canonical_json(value: Any) -> bytes:
    """Encode JSON in one way only: sorted keys, no spaces, UTF-8; what digests are taken of."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest_of(value: Any) -> str:
    """Return the SHA-256 hex digest of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def pretty_json(value: Any) -> bytes:
    """Encode JSON for people to read: keys in their given order, two spaces, a final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def check_schema(name: str, found: int, known: int) -> None:
    """Refuse a file that a newer version of this project wrote.

    Raises:
        SchemaTooNew: ``found`` is above ``known``.
    """
    if found > known:
        raise SchemaTooNew(
            f"{name} was written by a newer version",
            expected=f"schema {known} or older",
            found=found,
            remedy="Upgrade this package to read it",
        )

"""ImageFolder: ``<split>/<wnid>/<file>``, as torchvision's ``ImageFolder`` expects it.

A file that an unpacked source holds just so shares its blocks where the file system can (a
reflink: XFS, Btrfs), or its inode where that is asked for. The source is only ever read.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Self

from imagenet_etl.errors import ArchiveChanged, NotWritable
from imagenet_etl.files import clone_file
from imagenet_etl.records.base import LooseFile, Origin, Placed, Record, Written

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # nor waits for a pipe
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class ImageFolderWriter:
    """Writes loose files below a folder, which it makes and owns.

    There they lie side by side under numbers: making a folder for each class in each segment, and
    removing it again, would take as long as writing the few files in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[Written] = []
        self._names: set[str] = set()
        self._can_clone = True
        self._committed = False

    def __enter__(self) -> Self:
        # Discarding removes the whole folder, so nothing else may lie in it.
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._committed:
            shutil.rmtree(self._folder)

    def write(self, record: Record) -> Placed:
        """Write one image file, or let it share what an unpacked source holds.

        Raises:
            ArchiveChanged: The source's file is not what was indexed.
            NotWritable: A hard link was asked for and cannot be made.
        """
        name = record.path
        if record.suffix == ".png":
            name = f"{record.wnid}/{record.stem}.png"
        if name in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._names.add(name)
        path = f"{self._folder}/{len(self._written)}"
        if record.origin is not None and record.origin.hardlink:
            _link(record.origin, path)
        else:
            self._create(path, record)
        self._written.append(LooseFile(Path(path), len(record.data), record.sha256, name))
        return Placed(name, 0)

    def _create(self, path: str, record: Record) -> None:
        try:
            fd = os.open(path, _NEW, 0o666)
            try:
                if not self._clone(record.origin, fd):
                    _write_all(fd, record.data)
                    # Starts its way to the disk now; the flush of the segment then waits less.
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, error.filename or path) from error

    def _clone(self, origin: Origin | None, target: int) -> bool:
        """Return whether the target now shares the blocks of the origin."""
        if origin is None or not self._can_clone:
            return False
        try:
            source = os.open(origin.path, _READ)
        except OSError as error:
            raise _changed_or(error, origin) from error
        try:
            self._can_clone = clone_file(source, target)
            # Looked at afterwards: what is shared now is what was read and hashed before.
            _check(origin, os.fstat(source))
        finally:
            os.close(source)
        return self._can_clone

    def commit(self) -> list[Written]:
        """Return the files."""
        self._committed = True
        return self._written


def _write_all(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def _link(origin: Origin, path: str) -> None:
    try:
        os.link(origin.path, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise _changed_or(error, origin) from error
        raise NotWritable(
            f"{origin.path} cannot be hard linked into the data folder",
            found=os.strerror(error.errno or 0),
            remedy="Keep both on one file system and own the source, or leave hardlink off: then "
            "its blocks are shared where the file system can, else copied",
        ) from error
    _check(origin, os.lstat(path))


def _check(origin: Origin, state: os.stat_result) -> None:
    """Compare a file with the index.

    Raises:
        ArchiveChanged: It differs.
    """
    found = (state.st_size, state.st_mtime_ns)
    if not stat.S_ISREG(state.st_mode) or found != (origin.size, origin.mtime_ns):
        raise _changed(origin, f"{state.st_size:,} bytes, mtime {state.st_mtime_ns} ns")


def _changed_or(error: OSError, origin: Origin) -> Exception:
    return _changed(origin, os.strerror(error.errno)) if error.errno in _GONE else error


def _changed(origin: Origin, found: str) -> ArchiveChanged:
    return ArchiveChanged(
        f"{origin.path} changed since it was indexed",
        expected=f"{origin.size:,} bytes, mtime {origin.mtime_ns} ns",
        found=found,
        remedy="Run again to index it anew; leave the folder alone while a run uses it",
    )

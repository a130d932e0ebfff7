"""A folder as storage: hard links to publish, pread to read, one staging folder a process."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from imagenet_etl import files
from imagenet_etl.errors import KeyExists
from imagenet_etl.processes import ProcessId, this_process
from imagenet_etl.storage.base import Stat, checked_key

STAGING = ".staging"
_FOREIGN_STAGING_AGE_S = 3600.0


class LocalFile:
    """A local file that is read by position; safe to share between threads."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self.stat = _stat(os.fstat(fd))

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end of the file."""
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        parts, got = [data], len(data)
        while got < size and (data := os.pread(self._fd, size - got, offset + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def will_need(self, offset: int, size: int) -> None:
        """Ask the kernel to read the range ahead."""
        os.posix_fadvise(self._fd, offset, size, os.POSIX_FADV_WILLNEED)

    def current_stat(self) -> Stat | None:
        """Return what the file's name leads to now."""
        try:
            return _stat(self._path.stat())
        except FileNotFoundError:
            return None


@contextmanager
def open_local(path: Path) -> Iterator[LocalFile]:
    """Open any local file for reading by position.

    Raises:
        FileNotFoundError: There is no such file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield LocalFile(path, fd)
    finally:
        os.close(fd)


class LocalStorage:
    """Storage below one folder of a POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self.url = str(self.root)
        self._staging: Path | None = None

    def __repr__(self) -> str:
        return f"LocalStorage({self.url})"

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def stat(self, key: str) -> Stat | None:
        """Return the file's size and mtime, or None when there is no such file."""
        try:
            return _stat(self._path(key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        """Yield every file below the folder in sorted order."""
        folder = self._path(prefix)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            key = f"{checked_key(prefix)}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self.list(key)
            else:
                try:
                    yield key, _stat(entry.stat())
                except FileNotFoundError:
                    continue  # removed by another process since the scan

    def open(self, key: str) -> AbstractContextManager[LocalFile]:
        """Open a file for reading by position."""
        return open_local(self._path(key))

    def read(self, key: str) -> bytes | None:
        """Return a whole small file, or None."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def create(self, key: str, data: bytes) -> bool:
        """Store a small file if the name is free."""
        staged = self._stage(data)
        try:
            files.publish_file(staged, self._path(key))
        except KeyExists:
            staged.unlink()
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        """Replace a small state file in one step."""
        staged, final = self._stage(data), self._path(key)
        files.make_folders(final.parent)
        files.fsync_file(staged)
        staged.replace(final)
        files.fsync_folder(final.parent)

    def _stage(self, data: bytes) -> Path:
        staged = self.staging() / uuid.uuid4().hex
        staged.write_bytes(data)
        return staged

    def publish(self, key: str, path: Path) -> Stat:
        """Link a finished file to its final name."""
        final = self._path(key)
        files.publish_file(path, final)
        return _stat(final.stat())

    def place(self, key: str, path: Path) -> None:
        """Rename a file into place, unflushed."""
        final = self._path(key)
        try:
            path.replace(final)
        except FileNotFoundError:
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)

    def publish_tree(self, source: str, target: str, mark: str) -> None:  # noqa: ARG002
        """Rename the folder in one step, so that ``mark`` needs no order of its own."""
        files.publish_folder(self._path(source), self._path(target))

    def flush(self, prefix: str) -> None:
        """Flush the file system that holds the folder."""
        folder = self._path(prefix)
        if folder.exists():
            files.sync_filesystem(folder)

    def delete(self, prefix: str) -> None:
        """Remove a file or a whole folder."""
        path = self._path(prefix)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=False)
        else:
            path.unlink(missing_ok=True)

    def staging(self) -> Path:
        """Return this process's folder on the same file system, made when first asked for."""
        if self._staging is None or not self._staging.exists():
            me = this_process()
            folder = self.root / STAGING / f"{me.host}-{me.pid}-{uuid.uuid4().hex[:8]}"
            files.make_folders(folder)
            (folder / "owner.json").write_text(json.dumps(me.to_dict()))
            self._staging = folder
        return self._staging

    def keep_staging_alive(self) -> None:
        """Touch the staging folder, which is how other hosts judge its owner."""
        if self._staging is not None:
            os.utime(self._staging)

    def sweep_staging(self) -> int:
        """Remove staging folders whose owner is dead, or silent for an hour on another host."""
        swept = 0
        root = self.root / STAGING
        for folder in root.iterdir() if root.exists() else ():
            if folder != self._staging and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        return swept

    def close_staging(self) -> None:
        """Remove this process's staging folder with what is left in it."""
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None

    def check_space(self, needed_bytes: int, needed_files: int) -> None:
        """Compare with what the file system reports as free."""
        files.check_space(self.root, needed_bytes, needed_files)

    def local_path(self, key: str) -> Path | None:
        """Return the file's path."""
        return self._path(key)


def _is_abandoned(folder: Path) -> bool:
    try:
        age = time.time() - folder.stat().st_mtime
        owner = ProcessId(**json.loads((folder / "owner.json").read_text()))
    except FileNotFoundError:
        return False  # just being made, or just being removed
    except ValueError:
        return age > _FOREIGN_STAGING_AGE_S  # its owner died while writing owner.json
    return owner.is_known_dead() or age > _FOREIGN_STAGING_AGE_S


def _stat(state: os.stat_result) -> Stat:
    return Stat(state.st_size, str(state.st_mtime_ns))

"""A folder as storage: hard links to publish, pread to read, one staging folder a process."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from imagenet_etl import files
from imagenet_etl.errors import ConfigError, KeyExists, LeaseLost, NotEnoughSpace
from imagenet_etl.storage.base import Stat, checked_key, checked_prefix
from imagenet_etl.storage.folder_lock import alone_in
from imagenet_etl.storage.local_file import LocalFile, open_local, stat_of
from imagenet_etl.storage.staging import Staging
from imagenet_etl.streams import size_and_sha256

STAGING = ".staging"
_STAYS = (errno.ENOTDIR, errno.EXDEV, errno.ENOSPC, errno.EDQUOT)
"""Why something cannot be moved: not there, on another disk, no room for its name."""


class LocalStorage:
    """Storage below one folder of a POSIX file system.

    Args:
        root: The folder.
        within: See ``Staging``.
    """

    on_disk = True

    def __init__(self, root: Path, within: Path | None = None) -> None:
        self.root = Path(root).absolute()
        self.url = str(self.root)
        self._staging = Staging(self.root / STAGING, within=within)
        self._placed: list[str] = []

    def __repr__(self) -> str:
        return f"LocalStorage({self.url})"

    def at(self, url: str) -> LocalStorage:
        """Return the storage of another folder."""
        if "://" in url:
            raise ConfigError(f"{url} is no folder", expected="an absolute path")
        return LocalStorage(Path(url))

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _text(self, key: str) -> str:
        """Return a path as text, for what is done a million times."""
        return f"{self.url}/{checked_key(key)}"

    def _typed(self) -> AbstractContextManager[None]:
        return files.typed_os_errors(self.url)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._typed():
            try:
                yield
            except FileNotFoundError:
                self._staging.check()  # what was to be linked or renamed is gone with all of it
                raise

    def stat(self, key: str) -> Stat | None:
        """Return the file's size and mtime, or None when there is no such file."""
        with self._typed():
            try:
                state = self._path(key).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return None if stat.S_ISDIR(state.st_mode) else stat_of(state)

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        """Yield every file below the folder, in the order that a bucket lists them in."""
        prefix = checked_prefix(prefix)
        for name, entry in sorted(self._scanned(prefix).items()):
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            if name.endswith("/"):
                yield from self.list(key)
                continue
            try:
                yield key, stat_of(entry.stat())
            except FileNotFoundError:
                continue  # removed by another process since the scan

    def _scanned(self, prefix: str) -> dict[str, os.DirEntry[str]]:
        """Return a folder's entries by name, with a slash at the end of each folder's."""
        with self._typed():
            try:
                with os.scandir(self.root / prefix) as scanned:
                    names = {f"{entry.name}{'/' * _is_folder(entry)}": entry for entry in scanned}
            except (FileNotFoundError, NotADirectoryError):
                return {}
        if not prefix:
            names.pop(f"{STAGING}/", None)  # unfinished files are no keys
        return names

    def open(self, key: str) -> AbstractContextManager[LocalFile]:
        """Open a file for reading by position."""
        return open_local(self._text(key))

    def digest(self, key: str) -> tuple[int, str] | None:
        """Return a file's size and SHA-256, read past the page cache, or None."""
        with self._typed():
            try:
                return size_and_sha256(self._text(key))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def read(self, key: str) -> bytes | None:
        """Return a whole small file, or None."""
        with self._typed():
            try:
                return self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def create(self, key: str, data: bytes) -> bool:
        """Store a small file if the name is free."""
        final = self._path(key)
        with self._writing():
            staged = self._stage(data)
            try:
                files.publish_file(staged, final)
            except KeyExists:
                return False
            finally:
                staged.unlink(missing_ok=True)
        return True

    def put(self, key: str, data: bytes) -> None:
        """Replace a small state file in one step."""
        final = self._path(key)
        with self._writing():
            staged = self._stage(data)
            try:
                files.make_folders(final.parent)
                files.fsync_file(staged)
                staged.replace(final)
            finally:
                staged.unlink(missing_ok=True)
            files.fsync_folder(final.parent)

    def swap(self, key: str, data: bytes, seen: Stat | None) -> bool:
        """Store a small state file if its key has what was seen; others that swap it wait."""
        if seen is None:
            return self.create(key, data)
        with self._typed(), alone_in(self._path(key).parent):
            if self.stat(key) != seen:
                return False
            self.put(key, data)
        return True

    def _stage(self, data: bytes) -> Path:
        staged = self.staging() / uuid.uuid4().hex
        staged.write_bytes(data)
        return staged

    def publish(self, key: str, path: Path) -> Stat:
        """Link a finished file to its final name."""
        final = self._path(key)
        with self._writing():
            files.publish_file(path, final)
            return stat_of(final.stat())

    def place(self, key: str, path: Path) -> None:
        """Rename a file into place, unflushed."""
        final = self._text(key)
        with self._writing():
            try:
                path.rename(final)
            except FileNotFoundError:
                self._staging.check()
                Path(final).parent.mkdir(parents=True, exist_ok=True)
                path.rename(final)
        self._placed.append(final)

    def publish_tree(self, source: str, target: str, mark: str) -> None:
        """Rename the folder in one step, so that ``mark`` needs no order of its own."""
        if self.stat(f"{source}/{mark}") is None:
            raise FileNotFoundError(f"{self.url}/{source}/{mark}")
        there, final = self._path(source), self._path(target)
        with self._typed(), suppress(FileNotFoundError):  # moved since this look
            files.publish_folder(there, final)
            if (final / mark).exists():
                return
            _put_back(final, there)  # it slept, and another folder has the name by now
        raise LeaseLost(
            f"{self.url}/{source} is another one than it was",
            remedy="The newer run goes on; this one stops",
        )

    def flush(self, prefix: str) -> None:
        """Flush the file system that holds the folder, and forget what was placed there."""
        folder = self._path(prefix)
        placed, self._placed = self._placed, []
        if folder.exists():
            with self._typed():
                files.sync_filesystem(folder)
                files.drop_from_cache(placed)

    def delete(self, prefix: str) -> None:
        """Remove a file or a whole folder."""
        with self._typed():
            path = self._path(prefix)
            taken = self._take(path)
            if not taken.is_dir() or taken.is_symlink():
                _unlink(taken)
                return
            try:
                shutil.rmtree(taken, onerror=_unless_gone)
            except OSError:
                with suppress(OSError):
                    taken.rename(path)  # what is left has to be seen
                raise

    def remove(self, key: str) -> None:
        """Remove a file."""
        path = self._path(key)
        with self._typed():
            _unlink(path if path.is_dir() else self._take(path))

    def _take(self, path: Path) -> Path:
        """Move what is to be removed to where only the holder of its lease can; return its path."""
        try:
            taken = self.staging() / uuid.uuid4().hex
            path.rename(taken)
        except FileNotFoundError:
            self._staging.check()
        except NotEnoughSpace:
            return path  # there is no room to make a staging folder, and this makes some
        except OSError as error:
            if error.errno not in _STAYS:
                raise
            return path
        return taken

    def staging(self) -> Path:
        """Return this process's folder on the same file system."""
        return self._staging.folder()

    def staging_name(self) -> str:
        """Return the name of this process's staging folder."""
        return self._staging.folder().name

    def revoke(self, stagings: Iterable[str]) -> None:
        """Remove other processes' staging folders."""
        with self._typed():
            self._staging.revoke(stagings)

    def keep_staging_alive(self) -> None:
        """Touch the staging folder."""
        self._staging.keep_alive()

    def sweep_staging(self) -> int:
        """Remove staging folders whose owner is dead, or silent for an hour on another host."""
        return self._staging.sweep()

    def clear_staging(self) -> None:
        """Empty this process's staging folder."""
        self._staging.clear()

    def close_staging(self) -> None:
        """Remove this process's staging folder with what is left in it."""
        self._staging.close()

    def check_space(self, needed_bytes: int, needed_files: int) -> None:
        """Compare with what the file system reports as free."""
        files.check_space(self.root, needed_bytes, needed_files)

    def local_path(self, key: str) -> Path | None:
        """Return the file's path."""
        return self._path(key)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _unlink(path: Path) -> None:
    # What should be its folder may be a file.
    with suppress(NotADirectoryError):
        path.unlink(missing_ok=True)


def _put_back(folder: Path, where: Path) -> None:
    """Rename a folder to where it was, or beside it when there is another one again."""
    try:
        folder.rename(where)
    except OSError:
        folder.rename(where.with_name(f"{where.name}.late-{uuid.uuid4().hex[:8]}"))


def _unless_gone(_call: Any, _path: str, trouble: Any) -> None:
    """Pass over what another process has removed meanwhile."""
    if not isinstance(trouble[1], FileNotFoundError):
        raise trouble[1]

"""Large files read and written once, in order, past the page cache.

Records are written once and read back once. Taking them through the page cache costs a copy and a
fresh page for each 4 KiB, evicts the archive that is still being read, and lets the read-back see
the cache rather than the disk. Where the file system has no ``O_DIRECT`` everything works the same
through the cache. Source of the alignment rules: Linux man page open(2), "O_DIRECT".
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 4 << 20
_SMALL_BYTES = 16 << 10
_ALIGNMENT = 4096
_thread = threading.local()
_O_DIRECT = getattr(os, "O_DIRECT", 0)


@dataclass(frozen=True)
class Written:
    """A finished file, hashed while it was written.

    Attributes:
        path: Where it is in staging; below the writer's folder it has its final relative name.
        size: Bytes.
        sha256: Hex digest.
    """

    path: Path
    size: int
    sha256: str


class HashedFile:
    """A new file that is hashed while it is written.

    A large one is hashed and written block by block on a thread of its own, while the next block
    is gathered.

    Args:
        path: The file, which must not exist.
        large: Whether it is worth that thread, and going past the page cache.

    Raises:
        OSError: Here and from every method; it names the file.
    """

    def __init__(self, path: Path, *, large: bool = False) -> None:
        self.path = path
        self.size = 0
        self._buffer = memoryview(mmap.mmap(-1, BLOCK_BYTES if large else _SMALL_BYTES))
        self._spare = memoryview(mmap.mmap(-1, BLOCK_BYTES)) if large else None
        self._filled = 0
        self._thread = ThreadPoolExecutor(1) if large else None
        self._pending: Future[None] | None = None
        self._sha256 = hashlib.sha256()
        self._fd = _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, direct=large)

    def write(self, *pieces: bytes | memoryview) -> None:
        """Append the pieces.

        Raises:
            ValueError: The file is closed.
        """
        for piece in pieces:
            at, size = 0, len(piece)
            self.size += size
            view = memoryview(piece)
            while at < size:
                count = min(size - at, len(self._buffer) - self._filled)
                self._buffer[self._filled : self._filled + count] = view[at : at + count]
                self._filled += count
                at += count
                if self._filled == len(self._buffer):
                    self._flush()

    def _flush(self) -> None:
        full, self._filled = self._buffer[: self._filled], 0
        if self._thread is None or self._spare is None:
            self._put(full)
            return
        self._settle()
        self._pending = self._thread.submit(self._put, full)
        self._buffer, self._spare = self._spare, self._buffer

    def _settle(self) -> None:
        """Wait for the block that is being written.

        Raises:
            OSError: It could not be.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _put(self, block: memoryview) -> None:
        self._sha256.update(block)
        while block:
            try:
                block = block[os.write(self._fd, block) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not _is_direct(self._fd):
                    raise _named(error, self.path) from error
                _end_direct(self._fd)  # a short write broke the alignment

    def close(self) -> Written:
        """Write what is left and close; the file is complete but not yet flushed to the disk."""
        self._settle()
        _end_direct(self._fd)  # the end of the file is not aligned
        self._put(self._buffer[: self._filled])
        try:
            self._close()
        except OSError as error:  # network file systems write late
            raise _named(error, self.path) from error
        return Written(self.path, self.size, self._sha256.hexdigest())

    def _close(self) -> None:
        # Forgotten first: once closed, the number may soon be that of another thread's file.
        if self._thread is not None:
            self._thread.shutdown()
        fd, self._fd = self._fd, -1
        for buffer in (self._buffer, self._spare):
            if buffer is not None:
                buffer.release()
        if fd >= 0:
            os.close(fd)

    def discard(self) -> None:
        """Close, unless that is done, and remove the file."""
        with suppress(OSError):  # a full disk's last word on unwanted bytes
            self._settle()
        with suppress(OSError):
            self._close()
        self.path.unlink(missing_ok=True)


def read_blocks(path: Path | str) -> Generator[memoryview, None, None]:
    """Yield a file's content in order, in views of at most ``BLOCK_BYTES``.

    The next block is read while the caller works on one. A view is good until the next is asked
    for.
    """
    block, spare = (mmap.mmap(-1, BLOCK_BYTES) for _ in range(2))
    fd = _open(path, os.O_RDONLY, direct=True)
    try:
        with ThreadPoolExecutor(1) as thread:
            pending = thread.submit(_read, fd, block, path)
            while count := pending.result():
                block, spare = spare, block
                pending = thread.submit(_read, fd, block, path)
                yield memoryview(spare)[:count]
    finally:
        os.close(fd)


def size_and_sha256(path: Path | str) -> tuple[int, str]:
    """Return a file's length in bytes and its hex digest; made for a million small files.

    Raises:
        OSError: It cannot be read; the error names it.
    """
    fd = _open(path, os.O_RDONLY, direct=True)
    try:
        size = os.fstat(fd).st_size
        if size <= BLOCK_BYTES:
            block = getattr(_thread, "block", None)
            if block is None:
                block = _thread.block = memoryview(mmap.mmap(-1, BLOCK_BYTES))
            # No more room than is needed: the kernel pins every page that it is offered.
            room = block[: -(-size // _ALIGNMENT) * _ALIGNMENT]
            if _read(fd, room, path) == size:
                return size, hashlib.sha256(block[:size]).hexdigest()
    finally:
        os.close(fd)
    state, size = hashlib.sha256(), 0
    with closing(read_blocks(path)) as blocks:
        for read in blocks:
            state.update(read)
            size += len(read)
    return size, state.hexdigest()


def _read(fd: int, block: mmap.mmap | memoryview, path: Path | str) -> int:
    while True:
        try:
            return os.readv(fd, [block])
        except OSError as error:
            if error.errno != errno.EINVAL or not _is_direct(fd):
                raise _named(error, path) from error
            _end_direct(fd)


def _named(error: OSError, path: Path | str) -> OSError:
    return OSError(error.errno, error.strerror, str(path))


def _open(path: Path | str, flags: int, *, direct: bool) -> int:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
    if direct and _O_DIRECT:
        # Asked for afterwards: some file systems create the file before they refuse to open it so.
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | _O_DIRECT)
    return fd


def _is_direct(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & _O_DIRECT)


def _end_direct(fd: int) -> None:
    if _is_direct(fd):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~_O_DIRECT)

"""The kernel's lock on a folder, for the moment between a look and a write."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
_PATIENCE_S = 60.0
_PAUSE_S = 0.01


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait for others that ask for the same, on any host whose file system shares locks.

    The kernel gives the lock back when the process ends, whatever way it does. Nobody waits for one
    that is suspended for longer than a silent heartbeat is believed, nor where there are no such
    locks (Lustre without the mount option ``flock``): leases and their fence have to do.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _is_locked(fd) and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True

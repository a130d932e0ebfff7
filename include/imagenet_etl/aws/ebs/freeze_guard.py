"""The process that freezes a file system and thaws it again, whatever becomes of its parent.

It is run as a script and imports nothing of this project: while the file system is frozen it must
neither load anything from it nor write to it. It leaves its parent's session and children, since
whoever kills a task may kill all of those. It thaws when it is told to, when its parent's pipe
closes, and when the time is up. Sources: ioctl_fifreeze(2),
linux/fs.h (``FIFREEZE`` is ``_IOWR('X', 119, int)``, ``FITHAW`` ``_IOWR('X', 120, int)``).

Usage: ``freeze_guard.py MOUNT_POINT LIMIT_S``. It answers ``frozen``, then ``thawed WHY``; or
``failed ERRNO``.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


def main() -> int:
    """Freeze, wait, thaw; return the exit code."""
    mount_point, limit_s = sys.argv[1], float(sys.argv[2])
    if os.fork():
        os._exit(0)
    # A stop that is meant for the parent must not leave the file system frozen.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.chdir("/")
    folder = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(folder, FIFREEZE, 0)
    except OSError as error:
        _answer(f"failed {error.errno}")
        return 1
    why = "by its limit"
    try:
        _answer("frozen")
        if select.select([0], [], [], limit_s)[0]:
            why = "as asked" if os.read(0, 16) else "since its parent died"
    finally:
        fcntl.ioctl(folder, FITHAW, 0)
        os.close(folder)  # whoever hears that it is thawed may unmount it at once
    _answer(f"thawed {why}")
    return 0


def _answer(text: str) -> None:
    try:
        os.write(1, f"{text}\n".encode())
    except BrokenPipeError:
        return  # the parent is gone; what matters is done all the same


if __name__ == "__main__":
    sys.exit(main())

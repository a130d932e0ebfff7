"""Whatever happens to the harness, nothing of it stays: no process, no folder.

The keeper runs the harness as its child and adopts every process that loses its parent below it
(``PR_SET_CHILD_SUBREAPER``). When the harness has ended, by itself, by Ctrl-C or by ``kill -9``, it
kills what is left and removes the folder.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GRACE_S, _PATIENCE_S = 5.0, 30.0
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(with_signal: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that started it ends; prctl(2)."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)


def kept(harness: Callable[[Path], int]) -> int:
    """Run ``harness(folder)`` in a child process and clean up after it.

    The folder is a new one below the temporary folder. In it, ``orphans`` gets a line for each
    adopted process that ended: its pid, and its exit code or, negative, the signal that killed it.

    Returns:
        The child's exit code; 128 and the signal's number if one killed it.
    """
    folder = Path(tempfile.mkdtemp(prefix="imagenet-cluster-"))
    folder.chmod(0o711)  # Postgres runs as another user if this one is root
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if not child:
        die_with_parent()
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        sys.exit(harness(folder))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: _send(child, number))
    code = _reap_until(child, folder / "orphans")
    _end_all()
    shutil.rmtree(folder, ignore_errors=True)
    return code


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap_until(child: int, orphans: Path) -> int:
    with orphans.open("w", buffering=1) as log:
        while True:
            pid, status = os.wait()
            code = os.waitstatus_to_exitcode(status)
            if pid == child:
                return code if code >= 0 else 128 - code
            log.write(f"{pid} {code}\n")


def _end_all() -> None:
    """Kill what is left; Postgres may first remove its shared memory, having been told to quit."""
    deadline, grace = time.monotonic() + _PATIENCE_S, time.monotonic() + _GRACE_S
    while time.monotonic() < deadline:
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with suppress(psutil.NoSuchProcess):
                if process.name() != "postgres" or time.monotonic() > grace:
                    process.kill()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)
    sys.stderr.write(f"cluster: these processes do not end: {left}\n")

"""Real child processes that run a few lines of Python with this project importable."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment with its import path made plain."""
    path = os.pathsep.join(place for place in sys.path if place)
    return os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | extra


def start_python(code: str, *args: object) -> subprocess.Popen[str]:
    """Start a child that runs ``code``; the caller ends it."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )


@contextmanager
def python(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Run ``code`` in a child that is killed when the block ends."""
    process = start_python(code, *args)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a child with SIGKILL, even a stopped one, and reap it."""
    process.kill()
    process.communicate()


def told(process: subprocess.Popen[str]) -> str:
    """Return the next line that a child prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the child ended without a word"
    return line.rstrip("\n")


def is_running(pid: int) -> bool:
    """Return whether a process exists and is more than an unreaped zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], object], timeout_s: float) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True

"""A second host on this machine: a process with a host name and a pid namespace of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.children import environment, told


@dataclass(frozen=True)
class OnHost:
    """A Python program that runs on another host.

    Attributes:
        outside: The process that made the host.
        pid: The program's pid as it is seen from here; there it is 1.
    """

    outside: subprocess.Popen[str]
    pid: int

    def told(self) -> str:
        """Return the next line that it prints."""
        return told(self.outside)

    def send(self, signal_number: signal.Signals) -> None:
        """Send it a signal from here, where its namespace does not shield it."""
        os.kill(self.pid, signal_number)

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.outside.communicate(timeout=10)


@contextmanager
def python_on_host(name: str, code: str, *args: object) -> Iterator[OnHost]:
    """Run ``code`` on a host of that name; its first line, which it has to print, is taken.

    Where this machine does not let the user make namespaces the test is skipped, in CI it fails.
    """
    shell = f'hostname {name} && exec "$@"'
    process = subprocess.Popen(
        ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child=KILL",
         "sh", "-c", shell, "sh", sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            _cannot(process.communicate()[1])
        inside = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield OnHost(process, int(inside[0]))
    finally:
        process.kill()
        process.communicate()


def _cannot(why: str) -> None:
    if "unshare" not in why or os.environ.get("CI"):
        pytest.fail(f"the other host cannot be made: {why}")
    pytest.skip(f"this user may make no namespaces: {why.strip()}")

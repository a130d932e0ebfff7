"""Who is a process, and is it still alive: told across hosts, containers and reused pids."""

from __future__ import annotations

import math
import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

_UNKNOWN, _GONE = 0, -1
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Return how many cores this process may use, a container's limit counted in.

    Source: the kernel's cgroup-v2.rst, ``cpu.max``: microseconds of CPU a period, or ``max``.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = _QUOTA.read_text().split()
    except OSError:  # no cgroup v2, or the root one, which has no limit
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, math.ceil(int(quota) / int(period))))


@dataclass(frozen=True)
class ProcessId:
    """A process, told apart from every other one that may look at the same storage.

    Attributes:
        host: The host's name.
        namespace: The boot id and pid namespace, since two containers may share a host's name and
            a pid, and two machines even that and the number of their first namespace.
        pid: The process id.
        started: Its start time in clock ticks since boot, since pids are reused.
    """

    host: str
    namespace: str
    pid: int
    started: int

    def is_visible(self) -> bool:
        """Return whether this process could see that one: same machine, boot and pid namespace."""
        return (self.host, self.namespace) == (socket.gethostname(), _namespace())

    def is_known_dead(self) -> bool:
        """Return True only when this machine can see that the process has ended."""
        if not self.is_visible():
            return False
        started = _start_time(self.pid)
        told = _UNKNOWN not in (started, self.started)
        return started == _GONE or (told and started != self.started)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON record."""
        return asdict(self)


def this_process() -> ProcessId:
    """Return the identity of the calling process."""
    pid = os.getpid()
    return ProcessId(socket.gethostname(), _namespace(), pid, _start_time(pid))


@cache
def _namespace() -> str:
    boot, link = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{boot.read_text().strip()} {link.readlink()}"
    except OSError:  # not Linux
        return ""


def _start_time(pid: int) -> int:
    """Return the start time in ticks, ``_UNKNOWN`` if it is hidden, ``_GONE`` with no process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return _GONE
    except PermissionError:
        pass  # it lives, and belongs to another user
    try:
        fields = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # no /proc, or one that hides other users' processes (hidepid)
        return _UNKNOWN
    # The command's name stands in parentheses and may hold spaces; proc(5): starttime is field 22.
    rest = fields.rpartition(")")[2].split()
    return _GONE if rest[0] in "ZX" else int(rest[19])

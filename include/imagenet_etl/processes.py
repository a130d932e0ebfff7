"""Who is a process, and is it still alive: told across hosts, containers and reused pids."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcessId:
    """A process, told apart from every other one that may look at the same storage.

    Attributes:
        host: The host's name.
        namespace: Its pid namespace, since two containers may share a host's name and a pid.
        pid: The process id.
        started: Its start time in clock ticks since boot, since pids are reused.
    """

    host: str
    namespace: str
    pid: int
    started: int

    def is_known_dead(self) -> bool:
        """Return True only when this machine can see that the process has ended."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()):
            return False
        return _start_time(self.pid) != self.started

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON record."""
        return asdict(self)


def this_process() -> ProcessId:
    """Return the identity of the calling process."""
    pid = os.getpid()
    return ProcessId(socket.gethostname(), _namespace(), pid, _start_time(pid))


@cache
def _namespace() -> str:
    link = Path("/proc/self/ns/pid")
    return str(link.readlink()) if link.exists() else ""


def _start_time(pid: int) -> int:
    """Return the start time in ticks, 0 where it cannot be told, -1 when there is no process."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return -1
        except PermissionError:
            return 0
        return 0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    # The command's name stands in parentheses and may hold spaces; proc(5): starttime is field 22.
    rest = fields.rpartition(")")[2].split()
    return -1 if rest[0] in "ZX" else int(rest[19])

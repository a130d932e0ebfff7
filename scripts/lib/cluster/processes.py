"""Processes of the cluster: how they are started, found and killed."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.keeper import die_with_parent

PACKER = "imagenet_etl.pack_worker"
_CLONE_NEWUTS = 0x04000000
_LOWEST_PORT = 10_000
_libc = ctypes.CDLL(None, use_errno=True)


class ClusterError(Exception):
    """The cluster did not do what it had to; the message says what, and where to look."""


@dataclass(frozen=True)
class Start:
    """How a process is started.

    Attributes:
        command: What to run.
        log: Where its output goes, after what is there.
        env: Its whole environment.
        user: Who it runs as; None for the caller.
        host: A host name of its own, where this process may give one.
        at_end: What it is sent when the harness dies.
        stdin: What it reads from its standard input.
    """

    command: Sequence[str | Path]
    log: Path
    env: dict[str, str]
    user: str | None = None
    host: str = ""
    at_end: int = signal.SIGKILL
    stdin: str = ""


def start(how: Start) -> subprocess.Popen[bytes]:
    """Start a process in a process group of its own, which ends when this one does."""

    def in_child() -> None:
        die_with_parent(how.at_end)
        if how.host:
            take_host_name(how.host)

    with how.log.open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in how.command], env=how.env, cwd=how.log.parent,
            stdin=subprocess.PIPE if how.stdin else subprocess.DEVNULL, stdout=log, stderr=log,
            process_group=0,
            user=how.user, group=how.user, extra_groups=[] if how.user else None,
            preexec_fn=in_child,  # noqa: PLW1509 - nothing here has threads
        )  # fmt: skip
    if process.stdin is not None:
        with process.stdin as pipe:
            pipe.write(how.stdin.encode())
    return process


def end_of(process: subprocess.Popen[bytes], what: str, timeout_s: float) -> int:
    """Wait until a process has ended; return its exit code.

    Raises:
        ClusterError: It takes too long.
    """
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{what}: not within {timeout_s:.0f} s") from error


def take_host_name(name: str) -> bool:
    """Give this process a host name that others do not see; only root may, and not everywhere."""
    if _libc.unshare(_CLONE_NEWUTS):
        return False
    socket.sethostname(name)
    return True


def free_port() -> int:
    """Return a port of the loopback that nobody listens on.

    It is bound only later, and again after a restart. So it is none that the kernel gives to
    connections and to those who ask for any port, as long as there are others: ip(7).
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    others = range(_LOWEST_PORT, first)
    for port in [*random.sample(others, min(len(others), 100)), 0]:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ClusterError("no port of the loopback is free")


def wait_until(what: str, is_so: Callable[[], object], timeout_s: float) -> None:
    """Return as soon as something is so.

    Raises:
        ClusterError: It took too long.
    """
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.2)


def below(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started, directly or not."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def leads_a_group(pid: int) -> bool:
    """Return whether a process has a process group of its own."""
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def group_of(leader: int) -> list[int]:
    """Return the ids of the processes of a process group."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def packers_of(group: Iterable[int]) -> list[int]:
    """Return those of some processes that pack."""
    found = []
    for pid in group:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if PACKER in psutil.Process(pid).cmdline():
                found.append(pid)
    return found


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes, of which some may have ended meanwhile."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

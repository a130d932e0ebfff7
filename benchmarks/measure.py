"""Run commands and measure them from outside: wall time, memory, bytes written."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.places import PYCACHE

_PYTHON = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(PYCACHE)}
"""Modules are compiled once, as on anybody's machine, not in each of a job's processes."""

_SAMPLE_EVERY_S = 0.05


@dataclass(frozen=True)
class Step:
    """One command of a job.

    Attributes:
        argv: The command.
        cwd: Where it runs.
        env: What is added to the environment.
        name: What it is called where times are told step by step.
    """

    argv: Sequence[str | Path]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Cost:
    """What a job cost.

    Attributes:
        seconds: Wall time.
        cpu_seconds: Time on processors, of the whole tree; what else the machine does bears less
            on it.
        peak_bytes: Peak memory of its largest process (``ru_maxrss`` of the whole tree), but no
            less than that of the measuring process, which children inherit: keep that one small.
        written_bytes: Bytes given to file systems on a disk (``ru_oublock`` of the whole tree);
            what was deleted again counts too.
        steps: Wall time of each named step.
        workers_peak_bytes: Peak memory of the largest process that ``watch`` names.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    written_bytes: int = 0
    steps: Mapping[str, float] = field(default_factory=dict)
    workers_peak_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_bytes, other.peak_bytes),
            self.written_bytes + other.written_bytes,
            {**self.steps, **other.steps},
            max(self.workers_peak_bytes, other.workers_peak_bytes),
        )


class StepFailed(Exception):
    """A measured command ended with an error; the message holds the end of what it printed."""


def run(steps: Sequence[Step], watch: str = "") -> Cost:
    """Run a job's steps one after the other.

    Args:
        steps: The commands.
        watch: Processes with this in their command line are sampled for ``workers_peak_bytes``.

    Raises:
        StepFailed: A command did not end with 0.
    """
    total = Cost()
    for step in steps:
        total += _run_step(step, watch)
    return total


def _run_step(step: Step, watch: str) -> Cost:
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in step.argv],
            cwd=step.cwd,
            env=os.environ | _PYTHON | step.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with _sampler(process.pid, watch) as peaks:
                _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # Ctrl-C does not reach its session
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            tail = log.read()[-3000:].decode(errors="replace")
            command = " ".join(map(str, step.argv))
            raise StepFailed(f"{command} ended with {process.returncode}:\n{tail}")
    return Cost(
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024,
        usage.ru_oublock * 512,
        {step.name: seconds} if step.name else {},
        max(peaks.values(), default=0),
    )


@contextmanager
def _sampler(session: int, watch: str) -> Iterator[dict[int, int]]:
    """Yield a table of peak bytes by process id, which a thread keeps up to date."""
    peaks: dict[int, int] = {}
    if not watch:
        yield peaks
        return
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_EVERY_S):
            for pid in _processes_of(session, watch):
                peaks[pid] = max(peaks.get(pid, 0), _peak_of(pid))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _processes_of(session: int, watch: str) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        try:
            if (
                entry.name.isdecimal()
                and os.getsid(int(entry.name)) == session
                and watch.encode() in Path(entry.path, "cmdline").read_bytes()
            ):
                found.append(int(entry.name))
        except OSError:
            continue  # it has just ended
    return found


def _peak_of(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def forget_pages(path: Path) -> None:
    """Drop a file from the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)  # pages that are not on the disk yet stay
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def warm_up(path: Path) -> None:
    """Read a file once, so that all of it is in the page cache if it fits."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass

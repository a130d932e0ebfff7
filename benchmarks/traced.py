"""What a command makes below a folder, files that it removes again included: seen by ``strace``."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.measure import Step

_CALLS = (
    "open,openat,creat,link,linkat,rename,renameat,renameat2,"
    "write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range"
)
_OPTIONS = ("--seccomp-bpf", "-qq", "-y", "-s", "0", "-e", f"trace={_CALLS}")
_OPENED = re.compile(r"(?:creat\(|open.*\bO_CREAT\b).* = \d+<(?P<path>.*)>")
_NAMED = re.compile(r'(?:link|rename)\w*\(.*?"(?P<old>.*?)", .*?"(?P<new>.*?)".* = 0')
_WRITTEN = re.compile(
    r"(?:p?write\w*\(|sendfile\(|copy_file_range\(.*?, .*?, )\d+<(?P<path>.*?)>.* = (?P<bytes>\d+)"
)


@dataclass(frozen=True)
class Made:
    """What was made, whether it is still there or not.

    Attributes:
        files: How many files, by their kind.
        named: How many times a file was given another name, by ``link`` or ``rename``; by kind.
        bytes: How many were written to files.
    """

    files: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


def can_trace() -> bool:
    """Return whether ``strace`` is installed and allowed; in many containers it is not."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    trial = [strace, "-f", *_OPTIONS, "-o", "/dev/null", "true"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def traced(step: Step, into: Path) -> Step:
    """Return a step that does the same and leaves its traces in an empty folder."""
    # A file for each process: in a common one their lines cut each other short.
    strace = ["strace", "-ff", *_OPTIONS, "-o", into / "trace"]
    return replace(step, argv=[*strace, "--", *step.argv])


def read_traces(traces: Path, folder: Path, kind: Callable[[str], str]) -> Made:
    """Return what traces tell of the files below a folder, which was empty before.

    Args:
        traces: The folder of traces.
        folder: Where the command wrote, as an absolute path without links. Names are understood
            where they are absolute.
        kind: Returns a file's kind by its path; a file is of the first kind that one of its names
            has, since all begin under a staging name.
    """
    inside = f"{folder}/"
    opened: set[str] = set()
    names: dict[str, list[str]] = {}
    named: list[str] = []
    written = 0
    for line in _lines(traces):
        if found := _OPENED.match(line):
            opened.add(found["path"])
        elif found := _NAMED.match(line):
            names.setdefault(found["old"], []).append(found["new"])
            named.append(found["new"])
        elif (found := _WRITTEN.match(line)) and found["path"].startswith(inside):
            written += int(found["bytes"])
    files = Counter(
        next(filter(None, map(kind, (path, *names.get(path, [])))), "")
        for path in opened
        if path.startswith(inside)
    )
    return Made(files, Counter(kind(path) for path in named if path.startswith(inside)), written)


def _lines(traces: Path) -> Iterator[str]:
    for path in traces.iterdir():
        with path.open() as lines:
            yield from lines

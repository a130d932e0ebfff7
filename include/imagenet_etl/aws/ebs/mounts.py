"""Which mount a folder lies in. Source: proc_pid_mountinfo(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of ``mountinfo``.

    Attributes:
        number: Device number as ``major:minor``.
        subfolder: What of the file system is mounted; ``/`` for all of it.
        point: Where it is mounted.
        kind: Type of the file system.
        source: The device, in the words of who mounted it.
    """

    number: str
    subfolder: str
    point: str
    kind: str
    source: str


def parse_mounts(text: str) -> list[Mount]:
    """Return the mounts in their order; of two on one point the later hides the other."""
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        kind, source = rest[0], rest[1] if len(rest) > 1 else ""
        mounts.append(Mount(fields[2], _plain(fields[3]), _plain(fields[4]), kind, _plain(source)))
    return mounts


def mount_of(path: Path, root: Path = Path("/")) -> tuple[list[Mount], Mount]:
    """Return all mounts, and the one in which a folder lies.

    Args:
        path: The folder; links are followed.
        root: Where ``proc`` is looked for.
    """
    mounts = parse_mounts((root / "proc/self/mountinfo").read_text())
    place = PurePosixPath(path.resolve())
    holding = [item for item in mounts if place.is_relative_to(item.point)]
    # max takes the first of equals, and the last mount is the one that shows.
    return mounts, max(reversed(holding), key=lambda item: len(PurePosixPath(item.point).parts))


def _plain(text: str) -> str:
    """Return a field with its octal escapes, such as that of a space, undone."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)

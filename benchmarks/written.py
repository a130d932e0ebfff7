"""What a command leaves on a disk, and how that grows from a sample to a whole dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Step, run

PART_ROWS = 1 << 16
"""Images in a part of this project's index."""

_PAYLOAD = {".tar", ".JPEG", ".rec"}

Identity = tuple[int, int, int]


@dataclass(frozen=True)
class Written:
    """What one step wrote.

    Attributes:
        title: The step.
        payload: Bytes of files that hold images.
        tables: Bytes of all others.
        files: How many files it made, by what their number goes with: ``images``, ``classes``,
            ``shards``, ``parts``, ``val`` or nothing.
        moved: How many it gave another name, by the same.
        counted: Bytes that the kernel counted as given to a disk, those deleted again as well.
    """

    title: str
    payload: int = 0
    tables: int = 0
    files: Mapping[str, int] = field(default_factory=dict)
    moved: Mapping[str, int] = field(default_factory=dict)
    counted: int = 0


@dataclass(frozen=True)
class Size:
    """How large a dataset is."""

    bytes: int
    images: int
    classes: int
    shards: int
    val: int

    @property
    def parts(self) -> int:
        """How many parts its index is made in."""
        return -(-self.images // PART_ROWS)

    def times(self, written: Written, sample: Size) -> tuple[float, float, float]:
        """Return bytes, files and renames of a step, scaled from a sample to this."""
        grown = written.payload * self.bytes / sample.bytes
        grown += written.tables * self.images / sample.images
        return grown, self._grown(written.files, sample), self._grown(written.moved, sample)

    def _grown(self, counts: Mapping[str, int], sample: Size) -> float:
        return sum(
            count * (getattr(self, of) / getattr(sample, of) if of else 1)
            for of, count in counts.items()
        )


def identities(folder: Path) -> dict[str, Identity]:
    """Return what tells each file below a folder from others, by its path."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            state = os.stat(os.path.join(base, name))  # noqa: PTH116, PTH118 - a million of them
            found[f"{base}/{name}"] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


def watched(step: Step, folder: Path, kind: Callable[[str], str]) -> Written:
    """Run a step and return what it made below a folder.

    Args:
        step: The command.
        folder: Where it writes.
        kind: Returns what the number of files like this one goes with.
    """
    before = identities(folder)
    cost = run([step])
    old = set(before.values())
    payload = tables = moved = 0
    files: dict[str, int] = {}
    for path, identity in identities(folder).items():
        if path in before:
            continue
        if identity in old:
            moved += 1
            continue
        files[kind(path)] = files.get(kind(path), 0) + 1
        if Path(path).suffix in _PAYLOAD:
            payload += identity[1]
        else:
            tables += identity[1]
    return Written(step.name, payload, tables, files, {"val": moved}, cost.written_bytes)

"""Who packed what, by the leases and receipts of segments, as long as they are there."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.sample import DAG


@dataclass(frozen=True)
class Holder:
    """The last one that won the lease of a segment.

    Attributes:
        fence: The lease's generation.
        claim: The task, ``pack[1]``.
        attempt: Its try.
    """

    fence: int
    claim: str
    attempt: int


def holders(data: Path) -> dict[str, Holder]:
    """Return the holder of each segment that is or was packed; nothing once all is assembled."""
    found = {}
    for folder in data.glob(f"work/{DAG}/pack/*/leases/segment-*"):
        generations = sorted(folder.glob("[0-9]" * 8 + ".json"))
        with suppress(FileNotFoundError, ValueError):  # taken over or swept in this moment
            owner = json.loads(generations[-1].read_text())["owner"] if generations else None
            if owner:
                fence = int(generations[-1].stem)
                found[folder.name] = Holder(fence, owner["claim"], owner["attempt"])
    return found


def finished(data: Path) -> set[str]:
    """Return the segments that have a receipt."""
    receipts = data.glob(f"work/{DAG}/pack/*/segments/*.json")
    return {f"segment-{path.stem}" for path in receipts}


def snapshot(data: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and time of every file below ``work/`` and ``datasets/``."""
    found = {}
    for top in ("work", "datasets"):
        for path in (data / top).rglob("*"):
            with suppress(FileNotFoundError):
                stat = path.lstat()
                if path.is_file():
                    name = path.relative_to(data).as_posix()
                    found[name] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found

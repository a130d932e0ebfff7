"""File systems as a run sees them: told apart by device, with what is free on each."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from imagenet_etl.build import Build
from imagenet_etl.storage.local import STAGING

ARCHIVES, WORK, DATASETS = "archives", "work", "datasets"
PLACES = (ARCHIVES, WORK, DATASETS, STAGING)
"""Folders of a data folder, any of which may be a mount or a link to one."""

SCRATCH = "scratch"
"""Stands for the temporary folder, which is budgeted where the data folder is in a bucket."""

_BUCKET = -1

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True)
class Disk:
    """One file system, or a bucket.

    Attributes:
        device: What tells it from others, ``st_dev``.
        path: The folder that it was looked at through, or the bucket's URI.
        free_bytes: What an ordinary user may still write; None where there is no end of it.
        free_files: How many files may still be made; None where the file system sets no number.
    """

    device: int
    path: str
    free_bytes: int | None
    free_files: int | None = None


def disk_of(path: Path) -> Disk:
    """Return the file system that a path is on, or will be on once it is made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    state = os.statvfs(path)
    # File systems that make inodes on demand (XFS, Btrfs) report zero of them in all.
    files = state.f_favail if state.f_files else None
    return Disk(path.stat().st_dev, str(path), state.f_bavail * state.f_frsize, files)


def disks_of(build: Build) -> dict[str, Disk]:
    """Return the file system of each of the data folder's ``PLACES``; a bucket adds ``SCRATCH``."""
    if not build.storage.on_disk:
        bucket = Disk(_BUCKET, build.storage.url, None)
        return dict.fromkeys(PLACES, bucket) | {SCRATCH: disk_of(Path(tempfile.gettempdir()))}
    root = Path(build.settings.data_dir)
    return {place: disk_of(root / place) for place in PLACES}


def human(count: int) -> str:
    """Return a number of bytes for people, in decimal units with three digits: ``1.31 TB``."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {_UNITS[unit]}"

"""Tars of a sample: the same members give the same bytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from gzip import GzipFile
from pathlib import Path
from typing import IO

EPOCH = 1_340_000_000
"""June 2012, when the official archives were made."""


def new_tar(out: Path | IO[bytes] | GzipFile) -> tarfile.TarFile:
    """Begin a tar at a path or in an open file."""
    if isinstance(out, Path):
        return tarfile.open(out, "w", format=tarfile.USTAR_FORMAT)
    return tarfile.open(mode="w", fileobj=out, format=tarfile.USTAR_FORMAT)


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a regular file."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), EPOCH
    tar.addfile(info, io.BytesIO(data))


def add_folder(tar: tarfile.TarFile, name: str) -> None:
    """Add the entry of a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, EPOCH
    tar.addfile(info)


def tar_of(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a tar of files, made in memory."""
    out = io.BytesIO()
    with new_tar(out) as tar:
        for name, data in files:
            add_file(tar, name, data)
    return out.getvalue()

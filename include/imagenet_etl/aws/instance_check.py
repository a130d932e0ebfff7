"""Check a published version where only Python's standard library is, such as on an instance.

The text of this module is sent to instances as it stands, so it imports nothing of this package and
keeps to Python 3.7. What it reads is the list of files in ``manifest.json``. The images of loose
formats stand in a Parquet table instead, which the standard library cannot read: they are counted
and, in a full check, read, which loads a volume made from a snapshot, but not compared.

Exit codes: 0 right; 1 cannot read; 4 no manifest; 5 another manifest; 6 files are missing or cut;
7 content differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Iterator  # noqa: UP035 - Python 3.7 has no other Iterator[Path]

READERS = 8
"""Volumes from snapshots answer first reads slowly; several at once hide that."""

_CHUNK = 4 << 20
_SHOWN = 3
_BATCH = 1024
UNREADABLE, NO_MANIFEST, OTHER_MANIFEST, MISSING, DIFFERENT = 1, 4, 5, 6, 7


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex; 4 MiB of memory."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while True:
            data = file.read(_CHUNK)
            if not data:
                return digest.hexdigest()
            digest.update(data)


def check(folder: Path, manifest_sha256: str, full: bool) -> int:
    """Compare a version's folder with the digest of its manifest; returns the exit code."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return _end(NO_MANIFEST, f"{folder}: no manifest.json there")
    found = sha256_of(manifest)
    if found != manifest_sha256:
        text = f"{folder}: manifest.json has SHA-256 {found}, expected {manifest_sha256}"
        return _end(OTHER_MANIFEST, text)
    files = json.loads(manifest.read_bytes())["files"]
    wrong = [file["name"] for file in files if _is_cut(folder, file)]
    if wrong:
        return _end(MISSING, f"{folder}: missing or cut: {_some(wrong, len(files))}")
    loose = _loose(folder, {file["name"] for file in files})
    if full:
        with ThreadPoolExecutor(READERS) as readers:
            digests = readers.map(lambda file: sha256_of(folder / file["name"]), files)
            pairs = zip(files, digests)  # noqa: B905 - strict= came with Python 3.10
            wrong = [file["name"] for file, digest in pairs if digest != file["sha256"]]
            if wrong:
                return _end(DIFFERENT, f"{folder}: content differs: {_some(wrong, len(files))}")
            images = _read(readers, loose)
    else:
        images = sum(1 for _ in loose)
    told = f"{folder}: {len(files)} files are right, by " + ("content" if full else "size")
    if images:
        told += f"; {images} loose images were {'read' if full else 'counted'}, not compared"
    return _end(0, told)


def _end(code: int, text: str) -> int:
    stream = sys.stderr if code else sys.stdout
    stream.write(f"imagenet-etl: {text}\n")
    return code


def _some(names: list[str], of: int) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} of {of} files ({', '.join(names[:_SHOWN])}{more})"


def _is_cut(folder: Path, file: dict[str, Any]) -> bool:
    path = folder / file["name"]
    return not path.is_file() or path.stat().st_size != file["size"]


def _loose(folder: Path, listed: set[str]) -> Iterator[Path]:
    """Find the files of loose formats, which the manifest does not list itself."""
    for table in sorted(name for name in listed if name.endswith("/files.parquet")):
        for parent, _, names in os.walk(str((folder / table).parent)):
            for name in names:
                path = Path(parent, name)
                if path.relative_to(folder).as_posix() not in listed:
                    yield path


def _read(readers: ThreadPoolExecutor, paths: Iterator[Path]) -> int:
    """Read files to their end; returns how many. A few at a time, for there may be millions."""
    count = 0
    while True:
        digests = list(readers.map(sha256_of, list(islice(paths, _BATCH))))
        if not digests:
            return count
        count += len(digests)


if __name__ == "__main__":
    try:
        sys.exit(check(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "full"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(_end(UNREADABLE, f"{sys.argv[1]}: {type(error).__name__}: {error}"))

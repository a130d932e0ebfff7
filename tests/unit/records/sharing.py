"""File systems whose files can share blocks, and whether they do."""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KINDS = ("xfs", "btrfs")
MTIME_NS = 1_340_000_000_123_456_789
_FIEMAP, _SYNC, _SHARED, _EXTENTS = 0xC020660B, 1, 0x2000, 16  # linux/fiemap.h


@contextmanager
def sharing_disk(folder: Path, kind: str) -> Iterator[Path]:
    """Make a file system in a file and mount it; skips the test where that cannot be."""
    make = shutil.which(f"mkfs.{kind}")
    if os.geteuid() != 0 or make is None:
        pytest.skip(f"needs root and mkfs.{kind}")
    image, mounted = folder / "disk", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)  # sparse
    subprocess.run([make, "-q", image], check=True, capture_output=True)
    mount = ["mount", "-t", kind, "-o", "loop", image, mounted]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip(f"a file cannot be mounted as {kind} here")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)
        image.unlink()


def all_shared(path: Path) -> bool:
    """Return whether the file has extents and another file has each of them, too."""
    head = struct.pack("=QQLLLL", 0, 1 << 62, _SYNC, 0, _EXTENTS, 0)
    with path.open("rb") as file:
        answer = fcntl.ioctl(file, _FIEMAP, head + bytes(_EXTENTS * 56))
    count = struct.unpack_from("=L", answer, 20)[0]
    flags = [struct.unpack_from("=L", answer, 32 + 56 * n + 40)[0] for n in range(count)]
    return count > 0 and all(flag & _SHARED for flag in flags)


def state_of(path: Path) -> tuple[int, ...]:
    """Return what nobody may change of a source's file."""
    state = path.stat()
    return state.st_ino, state.st_mode, state.st_size, state.st_mtime_ns, state.st_uid

"""A power cut: a file system as its disk holds it at one moment, without what nobody flushed.

The file system lies in a file. What the kernel has not written to it yet, because nothing was
flushed, is missing from a copy of that file, as it is missing from a disk after a power cut. The
journal is written rarely, so that time alone saves nothing.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

_TRIES = 50
_MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
_OPTIONS = {"ext4": "loop,commit=300", "xfs": "loop,nouuid"}


def make_disk(image: Path, kind: str, size: int) -> Path:
    """Make a file system in a file of ``size`` bytes.

    Without root or the tool the test is skipped, and fails in CI.
    """
    if os.geteuid() != 0 or shutil.which(_MAKE[kind][0]) is None:
        _cannot(f"needs root and {_MAKE[kind][0]}")
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([*_MAKE[kind], str(image)], check=True, capture_output=True)
    return image


@contextmanager
def plugged_in(image: Path, folder: Path, kind: str) -> Iterator[Path]:
    """Mount a disk; its journal is replayed, as after any power cut."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", kind, "-o", _OPTIONS[kind], str(image), str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        _cannot("mounting needs the right to make loop devices")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _cannot(why: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def cut(image: Path, copy: Path, group: int) -> Path:
    """Stop a process group, and keep the disk as it is in that moment; the group is killed.

    The kernel may be writing back: only when two copies in a row are equal is it of one moment.
    """
    os.killpg(group, signal.SIGSTOP)
    try:
        return copy_of(image, copy)
    finally:
        os.killpg(group, signal.SIGKILL)


def copy_of(image: Path, copy: Path) -> Path:
    """Copy a disk of which nothing was written meanwhile."""
    other = copy.with_suffix(".again")
    for _ in range(_TRIES):
        for target in (copy, other):
            subprocess.run(["cp", "--sparse=always", image, target], check=True)
        if filecmp.cmp(copy, other, shallow=False):
            other.unlink()
            return copy
    raise AssertionError(f"{image} is written to all the time")

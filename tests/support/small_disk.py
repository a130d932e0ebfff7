"""A real file system that is really full."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, kind: str, *options: str) -> Iterator[Path]:
    """Mount a file system that lies in memory; skips the test where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", kind, *options, kind, str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip(f"mounting a {kind} needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def small_disk(folder: Path, size: str) -> AbstractContextManager[Path]:
    """Mount a tmpfs of a size such as ``2m``."""
    return mounted(folder, "tmpfs", "-o", f"size={size}")


def enlarge(folder: Path, size: str) -> None:
    """Give a small disk more room."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

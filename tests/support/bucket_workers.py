"""Workers that share nothing but a bucket: each a process with an empty folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.children import environment
from tests.support.ilsvrc import DEVKIT, TRAIN, VAL
from tests.support.moto_server import MotoServer

_TASK = """
import json, sys
from imagenet_etl.build import new_build
from imagenet_etl.cli_aws import aws_client
from imagenet_etl.config import Settings
from imagenet_etl.leases import Owner
from imagenet_etl.mapped import run_pack_group
from imagenet_etl.pipeline import run_stage
from imagenet_etl.publishing import publish_version
from imagenet_etl.selection import parse_group

settings, run, steps = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
for step in steps:
    name, _, group = step.partition(" ")
    build = new_build(Settings.from_json(json.dumps(settings)), Owner(run, step), aws_client)
    with build.locked(hand_on=name != "publish") as build:
        if name == "publish":
            print(json.dumps(publish_version(build).entry))
        elif group:
            run_pack_group(build, parse_group(group))
        else:
            run_stage(build, name)
"""

ARCHIVES = (TRAIN, VAL, DEVKIT)

STAGES = ("download", "untar", "restructure_val", "filter_classes", "plan_shards")
"""What comes before packing."""


@dataclass(frozen=True)
class Worker:
    """A machine with nothing on its disk.

    Attributes:
        folder: Its disk: temporary files, home and current folder.
        server: The S3 server.
        settings: What it is asked for.
        run: The run that it works for.
    """

    folder: Path
    server: MotoServer
    settings: dict[str, Any]
    run: str = "run-1"

    def start(self, *steps: str) -> subprocess.Popen[str]:
        """Start a process that runs stages, or ``pack I/N``, or ``publish``."""
        self.folder.mkdir(exist_ok=True)
        home = str(self.folder)
        return subprocess.Popen(
            [sys.executable, "-c", _TASK, json.dumps(self.settings), self.run, *steps],
            cwd=home, stdout=subprocess.PIPE, text=True,
            env=environment(**self.server.environment(), TMPDIR=home, HOME=home,
                            PYTHONDONTWRITEBYTECODE="1"),
        )  # fmt: skip

    def do(self, *steps: str) -> str:
        """Run steps to their end; return what they print."""
        return ended(self.start(*steps))

    def left_behind(self) -> list[str]:
        """Return what is on its disk."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*"))


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for a process that has to succeed; return what it printed."""
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return printed


def upload(server: MotoServer, archives: Path, bucket: str) -> dict[str, str]:
    """Put the archives into a new bucket as anybody would; return the run's sources."""
    uri, client = server.bucket(bucket), server.client("s3")
    for name in ARCHIVES:
        client.upload_file(str(archives / name), bucket, f"official/{name}")
    return {name: f"{uri}/official/{name}" for name in ARCHIVES}


def image_bytes(archives: Path) -> int:
    """Return the bytes of all images in the archives."""

    def images(tar: tarfile.TarFile) -> Iterator[int]:
        for member in tar:
            if member.name.endswith(".tar"):
                with tarfile.open(fileobj=tar.extractfile(member)) as inner:
                    yield from images(inner)
            elif member.isfile():
                yield member.size

    total = 0
    for name in (TRAIN, VAL):
        with tarfile.open(archives / name) as tar:
            total += sum(images(tar))
    return total

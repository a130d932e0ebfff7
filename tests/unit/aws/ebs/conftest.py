"""An account with one volume, and no pauses between looks."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.moto_server import MotoServer

from imagenet_etl.aws.ebs import once
from imagenet_etl.aws.ebs.tags import DatasetTags

TAGS = DatasetTags("tiny_imagenet", "v1", "ab" * 32, "datasets/tiny_imagenet/v1").to_dict()
OTHER_REGION = "eu-central-1"


@contextmanager
def loop_disk(folder: Path, kind: str) -> Iterator[Path]:
    """Mount a small file system of its own; skips the test where that is not allowed."""
    image, point = folder / "image", folder / "disk"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)  # XFS takes no less than 300 MB
    for step in ([f"mkfs.{kind}", "-q", image], ["mount", "-o", "loop", image, point]):
        try:
            ran = subprocess.run(step, capture_output=True)
        except FileNotFoundError:
            pytest.skip(f"{step[0]} is not installed")
        if ran.returncode:
            pytest.skip(f"{step[0]} of a loop device needs root and the right to mount")
    try:
        yield point
    finally:
        subprocess.run(["fsfreeze", "-u", point], capture_output=True)
        for _ in range(100):  # a guard whose parent was killed may not have let go of it yet
            if subprocess.run(["umount", point], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "WAITS_S", (0.0, 0.0))


@pytest.fixture
def ec2(moto: MotoServer) -> Any:
    return moto.client("ec2")


@pytest.fixture
def volume(ec2: Any) -> str:
    return str(ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"])


@pytest.fixture
def instance(ec2: Any) -> str:
    image = "ami-12c6146b"
    reply = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": "us-east-1a"}
    )
    return str(reply["Instances"][0]["InstanceId"])

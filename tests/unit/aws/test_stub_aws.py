"""The stand-in for the AWS CLI refuses what the CLI would refuse."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.moto_server import MotoServer
from tests.support.stub_aws import StubAws, stub_aws


@pytest.fixture
def aws(tmp_path: Path, moto: MotoServer) -> Iterator[StubAws]:
    with stub_aws(tmp_path / "bin", moto.client) as stub:
        yield stub


def call(aws: StubAws, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([aws.folder / "aws", *words], capture_output=True, text=True)


def test_shorthand_is_read_and_a_query_answered(aws: StubAws) -> None:
    tags = "ResourceType=volume,Tags=[{Key=a,Value=x:/y},{Key=b,Value=}]"
    made = call(aws, "--region", "us-east-1", "ec2", "create-volume", "--size", "1",
                "--availability-zone", "us-east-1a", "--tag-specifications", tags,
                "--output", "text", "--query", "VolumeId")  # fmt: skip
    assert made.stdout.startswith("vol-")
    found = call(aws, "ec2", "describe-volumes", "--filters", "Name=tag:a,Values=x:/y",
                 "Name=size,Values=[1,2]", "--output", "text",
                 "--query", "Volumes[].[VolumeId,State,Attachments[0].InstanceId]")  # fmt: skip
    assert found.stdout == f"{made.stdout.strip()}\tavailable\tNone\n"


def test_nothing_found_is_no_text(aws: StubAws) -> None:
    done = call(aws, "ec2", "describe-volumes", "--output", "text", "--query", "Volumes[].VolumeId")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ("ec2", "describe-volumez"),
        ("ec2", "describe-volumes", "--filterz", "a"),
        ("ec2", "describe-volumes", "--filters", "Namez=a"),
        ("ec2", "describe-volumes", "--query", "Volumes["),
    ],
)
def test_what_is_misspelt_fails(aws: StubAws, words: tuple[str, ...]) -> None:
    assert call(aws, *words).returncode == 252


def test_an_error_of_the_service_is_told(aws: StubAws) -> None:
    done = call(aws, "ec2", "delete-volume", "--volume-id", "vol-0123456789abcdef0")
    assert done.returncode == 254
    assert "InvalidVolume.NotFound" in done.stderr

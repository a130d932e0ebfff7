"""Archives on their way into a bucket, and what breaks off in the middle.

Each test ends in one of two states: the archive with its note, or nothing under the final name.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.downloads import FACTS, MIB, archive_bytes, ranges
from tests.support.fault_proxy import fault_proxy
from tests.support.fault_server import Answer, FaultServer
from tests.support.moto_server import MotoServer
from tests.unit.download.bucket_runs import (
    DATA,
    bucket_build,
    content_at,
    got,
    keys_below,
    sha256_of,
)

from imagenet_etl.errors import CloudUnavailable

PART = 5 * MIB
LARGE = archive_bytes(7, size=3 * PART + 777)
SHA256 = sha256_of(LARGE)
KEY = f"archives/tiny_imagenet/{SHA256[:12]}/{FACTS.name}"


@pytest.fixture
def server(moto: MotoServer) -> Iterator[FaultServer]:
    moto.bucket("sets")
    with FaultServer(LARGE) as running:
        yield running


def of(server: FaultServer) -> str:
    return f"{server.url}#sha256={SHA256}"


def start(moto: MotoServer, server: FaultServer, scratch: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "imagenet_etl", "download", "tiny_imagenet"]
    command += ["--data-dir", DATA, "--expect", "any", "--source", f"{FACTS.name}={of(server)}"]
    root = Path(__file__).parents[2]
    env = os.environ | moto.environment() | {"PYTHONPATH": str(root / "include")}
    env |= {"TMPDIR": str(scratch)}
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, cwd=scratch)


def parts_of(client: Any) -> int:
    uploads = client.list_multipart_uploads(Bucket="sets").get("Uploads", [])
    held = [
        client.list_parts(Bucket="sets", Key=one["Key"], UploadId=one["UploadId"]).get("Parts", [])
        for one in uploads
    ]
    return sum(map(len, held))


def test_a_killed_process_leaves_its_parts_to_the_next(
    moto: MotoServer, server: FaultServer, tmp_path: Path
) -> None:
    server.script = [Answer(stall_at=2 * PART + 99)]
    client = moto.client("s3")
    first = start(moto, server, tmp_path)
    for _ in range(3000):
        if parts_of(client) == 2:
            break
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.02)
    else:
        pytest.fail(f"{parts_of(client)} parts came within a minute, not 2")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    build = bucket_build(moto, of(server))
    assert build.storage.stat(KEY) is None
    note, fetched = got(build)
    assert (content_at(build, note), fetched) == (LARGE, len(LARGE))
    assert ranges(server)[1:] == [f"bytes={2 * PART}-"]
    assert server.sent < len(LARGE) + PART
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_connections_that_break_cost_nothing_but_what_was_in_flight(
    moto: MotoServer, server: FaultServer
) -> None:
    server.script = [Answer(drop_at=PART + 5000), Answer(cut_at=PART)]
    build = bucket_build(moto, of(server), connections=1)
    note, fetched = got(build)
    assert (content_at(build, note), fetched) == (LARGE, len(LARGE))
    assert server.sent == len(LARGE)


def test_what_changes_upstream_in_between_is_begun_anew(
    moto: MotoServer, server: FaultServer
) -> None:
    other = archive_bytes(8, size=len(LARGE))
    server.script = [Answer(body=other, drop_at=PART + 5000)]
    build = bucket_build(moto, of(server), connections=1)
    note, fetched = got(build)
    assert content_at(build, note) == LARGE
    assert fetched == len(LARGE) + PART + 5000
    assert parts_of(moto.client("s3")) == 0


def test_a_bucket_that_fails_keeps_what_it_has(moto: MotoServer, server: FaultServer) -> None:
    with fault_proxy(moto.url) as proxy:
        build = bucket_build(proxy, of(server), connections=1)
        proxy.answer("UploadPart", status=400, code="RequestTimeout", skip=1, times=100)
        with pytest.raises(CloudUnavailable, match="UploadPart"):
            got(build)
        proxy.heal()
        assert parts_of(moto.client("s3")) == 1
        note, _ = got(build)
    assert content_at(build, note) == LARGE
    assert ranges(server)[1:] == [f"bytes={PART}-"]


def test_lost_replies_to_the_last_calls_do_no_harm(moto: MotoServer, server: FaultServer) -> None:
    with fault_proxy(moto.url) as proxy:
        build = bucket_build(proxy, of(server), connections=1)
        proxy.drop_reply("CompleteMultipartUpload")
        proxy.drop_reply("CopyObject")
        # What S3 says to the same call when it is repeated.
        proxy.answer("CopyObject", status=412, code="PreconditionFailed")
        note, fetched = got(build)
    assert (content_at(build, note), fetched) == (LARGE, len(LARGE))
    assert keys_below(build, "archives") == [KEY, f"{KEY}.receipt.json"]

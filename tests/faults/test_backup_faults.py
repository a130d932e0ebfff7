"""Backups under faults 27 to 31: bursts of 503, dead parts and processes, refusals, conflicts.

Each ends with a complete backup, or with none that looks complete.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.children import python, told
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer
from tests.support.rclone_server import rclone_server

from imagenet_etl.aws import s3_unfinished
from imagenet_etl.aws.client_config import client_config
from imagenet_etl.aws.s3_backup import back_up_to_s3
from imagenet_etl.aws.s3_bucket import Bucket
from imagenet_etl.aws.s3_unfinished import unfinished
from imagenet_etl.aws.s3_upload import MIB, Sending
from imagenet_etl.build import Build
from imagenet_etl.datastore.store import datastore_of
from imagenet_etl.errors import (
    AccessDenied,
    BackupConflict,
    ClockSkewed,
    CloudNotFound,
    CloudUnavailable,
    StillPending,
)
from imagenet_etl.files import hash_file
from imagenet_etl.pipeline import receipts_up_to, run_stage
from imagenet_etl.pruning import prune_versions
from imagenet_etl.publishing import publish_version
from imagenet_etl.receipts import Output
from imagenet_etl.stage import Place

PREFIX = "data/tiny_imagenet/v1/"
MANIFEST = f"{PREFIX}manifest.json"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("packed")
    build = build_of(folder, tiny_zip(folder), formats=("recordio",), version="v1")
    run_stages(build)
    return build


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    moto.bucket("backups")
    with fault_proxy(moto.url) as proxy:
        yield proxy


@pytest.fixture
def build(packed: Build, proxy: FaultProxy) -> Iterator[Build]:
    yield through(packed, proxy)
    for name in ("back_up_to_s3", "s3_ledger", "s3_uploads"):
        packed.storage.delete(f"{packed.work}/{name}")


def through(packed: Build, server: MotoServer, **settings: Any) -> Build:
    """Return a build whose client has a backup's patience."""
    settings = {"s3_uri": "s3://backups/data", "s3_connections": 4} | settings
    chosen = replace(packed.settings, **settings)
    config = client_config("s3")

    def client(service: str) -> Any:
        return server.client(service, retries=config.retries)

    return replace(packed, settings=chosen, aws=client)


def keys(server: MotoServer) -> set[str]:
    reply = server.client("s3").list_objects_v2(Bucket="backups")
    return {item["Key"] for item in reply.get("Contents", ())}


def count(proxy: FaultProxy, action: str) -> int:
    return proxy.calls.count(action)


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_burst_of_server_errors_is_waited_out_and_counted(
    build: Build, proxy: FaultProxy, status: int, code: str
) -> None:
    proxy.answer("PutObject", status=status, code=code, times=4)
    proxy.answer("ListObjectsV2", status=status, code=code, times=1)
    receipt = run_stage(build, "back_up_to_s3").receipt
    assert receipt.facts["report"]["retries"] == 5
    assert MANIFEST in keys(proxy)


def test_receipt_counts_what_every_slice_has_retried_aborted_and_marked(
    build: Build, proxy: FaultProxy
) -> None:
    abandoned = {"Bucket": "backups", "Key": f"{PREFIX}gone.bin"}
    proxy.client("s3").create_multipart_upload(**abandoned)  # by moto's clock in 2010
    proxy.answer("PutObject", status=503, code="SlowDown", times=2)
    chosen = replace(build.settings, s3_connections=1, back_up=("archives", "dataset"))
    sliced, goes = replace(build, settings=chosen, slice_s=0.0), 0
    while True:
        try:
            report = run_stage(sliced, "back_up_to_s3").receipt.facts["report"]
            break
        except StillPending:
            goes += 1
    assert goes > 2
    assert (report["retries"], report["aborted_uploads"]) == (2, 1)
    assert report["sent_marks"] == ["tiny-imagenet-200.zip"]


def test_endless_burst_is_transient_and_the_next_run_goes_on(
    build: Build, proxy: FaultProxy, packed: Build
) -> None:
    proxy.answer("PutObject", status=503, code="SlowDown", times=99, skip=2)
    impatient = replace(build, aws=lambda s: proxy.client(s, retries={"total_max_attempts": 1}))
    with pytest.raises(CloudUnavailable, match="PutObject on s3://backups failed: found SlowDown"):
        run_stage(impatient, "back_up_to_s3")
    assert len(keys(proxy)) == 2
    assert MANIFEST not in keys(proxy)
    proxy.heal()
    receipt = run_stage(build, "back_up_to_s3").receipt
    assert receipt.facts["skipped"] == 2
    assert MANIFEST in keys(proxy)


def test_lost_reply_to_a_put_is_no_conflict(build: Build, proxy: FaultProxy) -> None:
    proxy.drop_reply("PutObject", times=2)
    receipt = run_stage(build, "back_up_to_s3").receipt
    assert receipt.facts["uploaded"] == receipt.counts["files"] - 2
    assert receipt.facts["report"]["skipped"] == {"the same is there": 2}


IN_PARTS = Sending(connections=2, multipart_above=5 * MIB, part_bytes=5 * MIB)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Build]:
    """A build whose version holds a file of four parts."""
    build = build_of(tmp_path, tiny_zip(tmp_path), formats=("recordio",), version="v1")
    run_stages(build)
    yield build


def in_parts(build: Build, sending: Sending = IN_PARTS) -> Place:
    """Return the stage's place, with a large file among what was verified."""
    done = receipts_up_to(build, "verify")
    path = Path(build.settings.data_dir, build.published, "v1", "large.bin")
    if not path.exists():
        path.write_bytes(os.urandom(16 * MIB))
    size, sha256 = path.stat().st_size, hash_file(path, "sha256")["sha256"]
    verified = done["verify"]
    name = path.relative_to(Path(build.settings.data_dir, verified.base)).as_posix()
    outputs = (*verified.outputs, Output(name, size, sha256))
    return Place(build, done | {"verify": replace(verified, outputs=outputs)}, "d", "work/x")


def test_part_that_fails_leaves_no_object_and_the_next_run_resumes(
    large: Build, proxy: FaultProxy
) -> None:
    proxy.drop_request("UploadPart", skip=2, times=99)
    build = through(large, proxy)
    impatient = replace(build, aws=lambda s: proxy.client(s, retries={"total_max_attempts": 1}))
    place = in_parts(impatient)
    with pytest.raises(CloudUnavailable, match="UploadPart on s3://backups got no answer"):
        back_up_to_s3(place, IN_PARTS)
    assert f"{PREFIX}large.bin" not in keys(proxy)
    assert MANIFEST not in keys(proxy)
    proxy.heal()
    result = back_up_to_s3(replace(place, build=build), IN_PARTS)
    assert result.facts["report"]["resumed_parts"] == 2
    assert {f"{PREFIX}large.bin", MANIFEST} <= keys(proxy)


def test_expired_token_keeps_the_parts_and_the_next_run_resumes(
    large: Build, proxy: FaultProxy
) -> None:
    proxy.answer("UploadPart", status=400, code="ExpiredToken", skip=2, times=99)
    build = through(large, proxy)
    with pytest.raises(AccessDenied, match="UploadPart on s3://backups was denied"):
        back_up_to_s3(in_parts(build), IN_PARTS)
    assert MANIFEST not in keys(proxy)
    proxy.heal()
    result = back_up_to_s3(in_parts(build), IN_PARTS)
    assert result.facts["report"]["resumed_parts"] >= 1
    assert {f"{PREFIX}large.bin", MANIFEST} <= keys(proxy)


@pytest.mark.parametrize(("status", "code", "why", "resumed"), [
    (412, "PreconditionFailed", "was taken, and is free again", 4),
    (404, "NoSuchUpload", "is gone or met another writer", 0),
    (409, "ConditionalRequestConflict", "is gone or met another writer", 0),
])  # fmt: skip
def test_refused_completion_says_why_there_is_no_object_and_the_next_run_sends_it(
    large: Build, proxy: FaultProxy, status: int, code: str, why: str, resumed: int
) -> None:
    proxy.answer("CompleteMultipartUpload", status=status, code=code)
    build = through(large, proxy)
    with pytest.raises(CloudUnavailable, match=rf"large\.bin {why}.*{code}"):
        back_up_to_s3(in_parts(build), IN_PARTS)
    assert not {f"{PREFIX}large.bin", MANIFEST} & keys(proxy)
    result = back_up_to_s3(in_parts(build), IN_PARTS)
    assert result.facts["report"]["resumed_parts"] == resumed
    assert {f"{PREFIX}large.bin", MANIFEST} <= keys(proxy)


def test_conflict_with_another_writer_is_waited_out(build: Build, proxy: FaultProxy) -> None:
    proxy.answer("PutObject", status=409, code="ConditionalRequestConflict", times=2)
    run_stage(build, "back_up_to_s3")
    assert MANIFEST in keys(proxy)


UPLOADER = """
    import sys
    from pathlib import Path
    from tests.faults.test_backup_faults import IN_PARTS, back_up_to_s3, in_parts, through
    from tests.support.archives import build_of
    from tests.support.moto_server import MotoServer

    folder, archive, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    build = build_of(folder, archive, formats=("recordio",), version="v1")
    client = MotoServer(url).client("s3")
    sent = iter(range(9))

    def stop_at_the_third(**_):
        if next(sent) == 2:
            print("two parts sent", flush=True)
            sys.stdin.read()

    client.meta.events.register("before-send.s3.UploadPart", stop_at_the_third)
    from dataclasses import replace
    build = replace(through(build, MotoServer(url)), aws=lambda _: client)
    back_up_to_s3(in_parts(build), replace(IN_PARTS, connections=1))
"""


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> Iterator[MotoServer]:
    if request.param == "moto":
        moto: MotoServer = request.getfixturevalue("moto")
        moto.bucket("backups")
        yield moto
        return
    with rclone_server() as rclone:
        rclone.bucket("backups")
        yield rclone


def test_killed_uploader_leaves_no_object_and_is_resumed(
    large: Build, server: MotoServer, tmp_path: Path
) -> None:
    in_parts(large)
    archive = next(iter(large.settings.sources.values()))
    with python(UPLOADER, tmp_path, archive, server.url) as process:
        assert told(process) == "two parts sent"
        process.send_signal(signal.SIGKILL)
    assert f"{PREFIX}large.bin" not in keys(server)
    assert MANIFEST not in keys(server)
    assert len(list(unfinished(Bucket(server.client("s3"), "backups"), ""))) == 1
    result = back_up_to_s3(in_parts(through(large, server)), IN_PARTS)
    assert result.facts["report"]["resumed_parts"] == 2
    assert {f"{PREFIX}large.bin", MANIFEST} <= keys(server)
    assert list(unfinished(Bucket(server.client("s3"), "backups"), "")) == []


def test_killed_upload_that_nobody_goes_on_with_is_aborted_once_it_is_idle(
    large: Build, server: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_unfinished, "IDLE_S", -5.0)
    in_parts(large)
    archive = next(iter(large.settings.sources.values()))
    with python(UPLOADER, tmp_path, archive, server.url) as process:
        told(process)
        process.send_signal(signal.SIGKILL)
    receipt = run_stage(through(large, server), "back_up_to_s3").receipt
    assert receipt.facts["report"]["aborted_uploads"] == 1
    assert list(unfinished(Bucket(server.client("s3"), "backups"), "")) == []


def test_missing_bucket_is_terminal_after_one_attempt(packed: Build, proxy: FaultProxy) -> None:
    build = through(packed, proxy, s3_uri="s3://no-such-bucket/x")
    with pytest.raises(CloudNotFound, match=r"s3://no-such-bucket does not exist.*GetObject"):
        run_stage(build, "back_up_to_s3")
    assert proxy.calls == ["GetObject"]


@pytest.mark.parametrize("action", ["ListObjectsV2", "PutObject", "HeadObject"])
def test_denied_action_is_terminal_after_one_attempt_and_named(
    build: Build, proxy: FaultProxy, moto: MotoServer, action: str
) -> None:
    proxy.answer(action, status=403, code="AccessDenied", times=99)
    one = replace(build, settings=replace(build.settings, s3_connections=1))
    with pytest.raises(AccessDenied, match=f"{action} on s3://backups was denied"):
        run_stage(one, "back_up_to_s3")
    assert count(proxy, action) == 1
    assert MANIFEST not in keys(moto)


def test_wrong_clock_is_terminal_after_one_attempt_and_named(
    build: Build, proxy: FaultProxy
) -> None:
    proxy.answer("ListObjectsV2", status=403, code="RequestTimeTooSkewed", times=99)
    with pytest.raises(ClockSkewed, match=r"this machine's clock is wrong.*NTP"):
        run_stage(build, "back_up_to_s3")
    assert count(proxy, "ListObjectsV2") == 1


def test_object_that_appears_meanwhile_is_a_conflict_and_stays(
    build: Build, proxy: FaultProxy, moto: MotoServer
) -> None:
    # The listing does not show it yet; the create-only write finds it.
    moto.client("s3").put_object(Bucket="backups", Key=f"{PREFIX}classes.tsv", Body=b"theirs")
    proxy.rewrite("ListObjectsV2", lambda body: body.replace(b"classes.tsv", b"hidden.tsv"))
    with pytest.raises(BackupConflict, match=r"classes\.tsv holds something else"):
        run_stage(build, "back_up_to_s3")
    reply = moto.client("s3").get_object(Bucket="backups", Key=f"{PREFIX}classes.tsv")
    assert reply["Body"].read() == b"theirs"
    assert MANIFEST not in keys(proxy)


def test_same_object_that_appears_meanwhile_is_taken_for_ours(
    build: Build, proxy: FaultProxy
) -> None:
    run_stage(build, "back_up_to_s3")
    before = keys(proxy)
    for name in ("back_up_to_s3", "s3_ledger"):
        build.storage.delete(f"{build.work}/{name}")
    proxy.rewrite("ListObjectsV2", lambda body: body.replace(b"classes.tsv", b"hidden.tsv"))
    run_stage(build, "back_up_to_s3")
    assert keys(proxy) == {key.replace("classes.tsv", "hidden.tsv") for key in before}


def while_the_manifest_is_sent(build: Build, server: MotoServer, do: Callable[[], object]) -> Build:
    """Return a build beside whose first request for its manifest something is done."""
    client, todo = server.client("s3"), [do]

    def first(request: Any, **_: object) -> None:
        if request.url.endswith(MANIFEST) and todo:
            todo.pop()()

    client.meta.events.register("before-send.s3.PutObject", first)
    return replace(build, aws=lambda _: client)


def lost_in_the_bucket(build: Build, server: MotoServer) -> None:
    """Forget the backup here, and let the bucket have lost its manifest."""
    for name in ("back_up_to_s3", "s3_ledger"):
        build.storage.delete(f"{build.work}/{name}")
    server.client("s3").delete_object(Bucket="backups", Key=MANIFEST)


def test_prune_while_the_manifest_is_under_way_fails_the_backup_and_the_next_sends_all(
    large: Build, proxy: FaultProxy, tmp_path: Path
) -> None:
    build = through(large, proxy)
    run_stage(build, "back_up_to_s3")
    publish_version(build)
    (tmp_path / "other").mkdir()
    other = build_of(tmp_path / "other", tiny_zip(tmp_path / "other"), version="v2")
    run_stages(other)
    other = through(other, proxy)
    run_stage(other, "back_up_to_s3")
    publish_version(other)
    before = {key for key in keys(proxy) if key.startswith(PREFIX)}
    lost_in_the_bucket(build, proxy)

    def prune() -> None:
        prune_versions(datastore_of(other), 1, really=True)

    with pytest.raises(CloudUnavailable, match="v1 was removed meanwhile"):
        run_stage(while_the_manifest_is_sent(build, proxy, prune), "back_up_to_s3")
    run_stage(build, "back_up_to_s3")
    assert {key for key in keys(proxy) if key.startswith(PREFIX)} == before


def test_objects_of_an_uncatalogued_version_that_vanish_beside_its_manifest_fail_the_backup(
    build: Build, proxy: FaultProxy
) -> None:
    run_stage(build, "back_up_to_s3")
    before = keys(proxy)
    lost_in_the_bucket(build, proxy)

    def remove() -> None:
        for key in keys(proxy):
            proxy.client("s3").delete_object(Bucket="backups", Key=key)

    with pytest.raises(CloudUnavailable, match="has lost objects while its manifest was written"):
        run_stage(while_the_manifest_is_sent(build, proxy, remove), "back_up_to_s3")
    run_stage(build, "back_up_to_s3")
    assert keys(proxy) == before

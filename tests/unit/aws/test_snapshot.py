"""One snapshot a version, found again by its tags."""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer
from tests.unit.aws.conftest import with_settings
from tests.unit.aws.ebs.conftest import loop_disk

from imagenet_etl.aws import client_config
from imagenet_etl.aws.ebs import once, snapshot_stage
from imagenet_etl.aws.ebs.device import EBS, Underlying
from imagenet_etl.aws.ebs.tags import MANIFEST, PATH, UNUSABLE, tags_of
from imagenet_etl.build import Build
from imagenet_etl.errors import (
    CloudNotFound,
    FreezeFailed,
    NothingToDo,
    SnapshotFailed,
    StillPending,
    WrongVolume,
)
from imagenet_etl.pipeline import run_stage

VOLUME = "vol-0123456789abcdef0"


@pytest.fixture
def volume(packed: Build, moto: MotoServer) -> Iterator[str]:
    ec2 = moto.client("ec2")
    yield ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    packed.storage.delete(f"{packed.work}/snapshot_ebs")


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    with fault_proxy(moto.url) as running:
        yield running


def snapshots(moto: MotoServer, volume: str) -> list[dict[str, Any]]:
    filters = [{"Name": "volume-id", "Values": [volume]}]
    return list(moto.client("ec2").describe_snapshots(Filters=filters)["Snapshots"])


def test_snapshot_is_created_and_tagged(packed: Build, moto: MotoServer, volume: str) -> None:
    build = with_settings(packed, moto.client, ebs_volume_id=volume)
    receipt = run_stage(build, "snapshot_ebs").receipt
    (snapshot,) = snapshots(moto, volume)
    tags = tags_of(snapshot)
    assert receipt.facts == {
        "snapshot_id": snapshot["SnapshotId"],
        "volume_id": volume,
        "region": "us-east-1",
        "path": tags[PATH],
    }
    assert tags["imagenet-etl:dataset"] == "tiny_imagenet"
    assert tags["imagenet-etl:version"] == "v1"
    assert len(tags[MANIFEST]) == 64
    assert tags[PATH].endswith("datasets/tiny_imagenet/v1")


def test_second_run_and_lost_receipt_find_the_one_that_is_there(
    packed: Build, moto: MotoServer, volume: str
) -> None:
    build = with_settings(packed, moto.client, ebs_volume_id=volume)
    run_stage(build, "snapshot_ebs")
    assert run_stage(build, "snapshot_ebs").reused
    packed.storage.delete(f"{packed.work}/snapshot_ebs")
    run_stage(build, "snapshot_ebs")
    assert len(snapshots(moto, volume)) == 1


def test_deleted_snapshot_is_taken_anew(packed: Build, moto: MotoServer, volume: str) -> None:
    build = with_settings(packed, moto.client, ebs_volume_id=volume)
    first = run_stage(build, "snapshot_ebs").receipt
    moto.client("ec2").delete_snapshot(SnapshotId=first.facts["snapshot_id"])
    second = run_stage(build, "snapshot_ebs")
    assert not second.reused
    assert second.receipt.digest != first.digest
    assert len(snapshots(moto, volume)) == 1


def test_missing_volume_is_named(packed: Build, moto: MotoServer) -> None:
    build = with_settings(packed, moto.client, ebs_volume_id=VOLUME)
    with pytest.raises(CloudNotFound, match=f"{VOLUME} does not exist"):
        run_stage(build, "snapshot_ebs")


def test_nothing_is_done_without_a_volume(packed: Build) -> None:
    with pytest.raises(NothingToDo, match="no EBS volume id"):
        run_stage(packed, "snapshot_ebs")


def test_volume_that_holds_something_else_gets_no_snapshot(
    packed: Build, moto: MotoServer, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Underlying(EBS, VOLUME, "/", True, "xfs", "nvme1n1")
    monkeypatch.setattr("imagenet_etl.aws.ebs.device.volume_under", lambda *_: elsewhere)
    build = with_settings(packed, moto.client, ebs_volume_id=volume)
    with pytest.raises(WrongVolume, match=f"expected {volume}, found {VOLUME}"):
        run_stage(build, "snapshot_ebs")
    assert snapshots(moto, volume) == []


def test_long_path_is_left_out_of_the_tags() -> None:
    assert snapshot_stage._tag_value("x" * 256) == "x" * 256
    assert snapshot_stage._tag_value("x" * 257) == ""


def shown_as(proxy: FaultProxy, state: str, begun: datetime | None = None, told: str = "") -> None:
    """Show every snapshot in another state, and as begun at another time."""

    def change(body: bytes) -> bytes:
        text = body.decode().replace(
            "<status>completed</status>",
            f"<status>{state}</status><statusMessage>{told}</statusMessage>",
        )
        head, found, tail = text.partition("<startTime>")
        if begun is not None and found:
            tail = begun.strftime("%Y-%m-%dT%H:%M:%S.000Z") + tail[tail.index("</startTime>") :]
        return (head + found + tail).encode()

    proxy.rewrite("DescribeSnapshots", change)


def test_pending_snapshot_is_waited_for_and_not_created_again(
    packed: Build, proxy: FaultProxy, volume: str
) -> None:
    build = with_settings(packed, proxy.client, ebs_volume_id=volume)
    shown_as(proxy, "pending", datetime.now(UTC) - timedelta(hours=3))
    for _ in range(3):
        with pytest.raises(StillPending, match=r"snapshot snap-\w+ is pending") as raised:
            run_stage(build, "snapshot_ebs")
        assert raised.value.retry_after_s > 0
    proxy.heal()
    run_stage(build, "snapshot_ebs")
    assert proxy.calls.count("CreateSnapshot") == 1


def test_snapshot_in_error_tells_the_reason_and_the_next_run_begins_anew(
    packed: Build, proxy: FaultProxy, moto: MotoServer, volume: str
) -> None:
    build = with_settings(packed, proxy.client, ebs_volume_id=volume)
    shown_as(proxy, "pending")
    with pytest.raises(StillPending):
        run_stage(build, "snapshot_ebs")
    proxy.heal()
    shown_as(proxy, "error", told="KMS key is disabled")
    with pytest.raises(SnapshotFailed, match="error KMS key is disabled"):
        run_stage(build, "snapshot_ebs")
    proxy.heal()
    receipt = run_stage(build, "snapshot_ebs").receipt
    failed = [item for item in snapshots(moto, volume) if UNUSABLE in tags_of(item)]
    assert tags_of(failed[0])[UNUSABLE] == "error KMS key is disabled"
    assert failed[0]["SnapshotId"] != receipt.facts["snapshot_id"]


def test_snapshot_that_never_ends_meets_its_deadline(
    packed: Build, proxy: FaultProxy, volume: str
) -> None:
    build = with_settings(packed, proxy.client, ebs_volume_id=volume)
    shown_as(proxy, "pending", datetime.now(UTC) - timedelta(hours=25))
    with pytest.raises(SnapshotFailed, match=r"pending.* after 25\.0 h"):
        run_stage(build, "snapshot_ebs")


@pytest.fixture
def on_disk(tmp_path: Path, moto: MotoServer) -> Iterator[tuple[Build, str]]:
    """A published version on a file system of its own, and a volume to freeze it for."""
    volume = moto.client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    with loop_disk(tmp_path, "ext4") as disk:
        archive = tiny_zip(tmp_path)
        build = build_of(disk, archive, version="v1", ebs_volume_id=volume, freeze=True)
        run_stages(build)
        yield build, volume


def test_frozen_volume_gives_a_good_snapshot(
    on_disk: tuple[Build, str], proxy: FaultProxy, moto: MotoServer
) -> None:
    build, volume = on_disk
    writers = []

    def write_meanwhile(body: bytes) -> bytes:
        code = f"open({str(Path(build.settings.data_dir, 'meanwhile'))!r}, 'w').write('x')"
        writers.append(subprocess.Popen(["python3", "-c", code]))
        with pytest.raises(subprocess.TimeoutExpired):
            writers[0].wait(timeout=0.5)
        return body

    proxy.rewrite("CreateSnapshot", write_meanwhile)
    receipt = run_stage(with_settings(build, proxy.client), "snapshot_ebs").receipt
    (snapshot,) = snapshots(moto, volume)
    assert UNUSABLE not in tags_of(snapshot)
    assert receipt.facts["path"] == "data/datasets/tiny_imagenet/v1"
    assert writers[0].wait(timeout=30) == 0


def test_good_snapshot_is_kept_though_ec2_is_silent_for_a_while(
    on_disk: tuple[Build, str], proxy: FaultProxy, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(client_config, "_ATTEMPTS", 1)
    build, volume = on_disk
    proxy.drop_request("DeleteTags", times=8)
    run_stage(with_settings(build, proxy.client), "snapshot_ebs")
    (snapshot,) = snapshots(moto, volume)
    assert UNUSABLE not in tags_of(snapshot)


def test_volume_that_thawed_too_early_leaves_an_unusable_snapshot(
    on_disk: tuple[Build, str], proxy: FaultProxy, moto: MotoServer
) -> None:
    build, volume = on_disk
    disk = Path(build.settings.data_dir).parent

    def thaw(body: bytes) -> bytes:
        subprocess.run(["fsfreeze", "-u", disk], check=True)
        return body

    proxy.rewrite("CreateSnapshot", thaw, times=1)
    build = with_settings(build, proxy.client)
    with pytest.raises(FreezeFailed, match="did not stay frozen"):
        run_stage(build, "snapshot_ebs")
    (unusable,) = snapshots(moto, volume)
    assert "while frozen" in tags_of(unusable)[UNUSABLE]
    good = run_stage(build, "snapshot_ebs").receipt.facts["snapshot_id"]
    assert good != unusable["SnapshotId"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may freeze")
def test_root_file_system_is_never_frozen(
    packed: Build, moto: MotoServer, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Underlying("unknown", "", "/", True, "ext4", "vda")
    monkeypatch.setattr(snapshot_stage, "check_volume", lambda *_: root)
    build = with_settings(packed, moto.client, ebs_volume_id=volume, freeze=True)
    with pytest.raises(FreezeFailed, match="may be the root file system"):
        run_stage(build, "snapshot_ebs")
    assert snapshots(moto, volume) == []

"""EBS fails, throttles, forgets to answer, or is asked for what must not be."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import REGION, MotoServer
from tests.unit.aws.conftest import with_settings
from tests.unit.aws.ebs.conftest import OTHER_REGION, TAGS, loop_disk

from imagenet_etl.aws.ebs import once
from imagenet_etl.aws.ebs.attachments import attach_volume
from imagenet_etl.aws.ebs.copies import copy_snapshot
from imagenet_etl.aws.ebs.once import never_repeated
from imagenet_etl.aws.ebs.published import newest_snapshot
from imagenet_etl.aws.ebs.sharing import share_snapshot
from imagenet_etl.aws.ebs.snapshots import create_snapshot, find_snapshots
from imagenet_etl.aws.ebs.tags import COPY_OF, UNUSABLE, tags_of
from imagenet_etl.aws.ebs.volumes import (
    VolumeRequest,
    create_volume,
    delete_volume,
    find_volume,
)
from imagenet_etl.aws.ebs.waits import snapshot_progress, volume_progress
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import (
    CloudNotFound,
    CloudUnavailable,
    SharingRefused,
    SnapshotFailed,
    StillPending,
)
from imagenet_etl.files import pretty_json
from imagenet_etl.pipeline import run_stage

FRIEND = "111122223333"
ZONE = "us-east-1a"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "WAITS_S", (0.0, 0.0))


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    with fault_proxy(moto.url) as running:
        yield running


@pytest.fixture
def ec2(proxy: FaultProxy) -> Any:
    return proxy.client("ec2")


@pytest.fixture
def target(proxy: FaultProxy) -> Any:
    return proxy.client("ec2", region_name=OTHER_REGION)


@pytest.fixture
def volume(ec2: Any) -> str:
    return str(ec2.create_volume(AvailabilityZone=ZONE, Size=8)["VolumeId"])


def taken(ec2: Any, volume: str) -> dict[str, Any]:
    return create_snapshot(ec2, volume, description="for a test", tags=TAGS)


def fail_described(proxy: FaultProxy) -> None:
    """Show every snapshot as failed."""
    failed = b"<status>error</status><statusMessage>KMS key is disabled</statusMessage>"
    change = (b"<status>completed</status>", failed)
    proxy.rewrite("DescribeSnapshots", lambda body: body.replace(*change))


def test_failed_snapshot_is_terminal_and_nobody_deploys_it(
    ec2: Any, proxy: FaultProxy, volume: str
) -> None:
    identifier = taken(ec2, volume)["SnapshotId"]
    fail_described(proxy)
    with pytest.raises(SnapshotFailed, match="KMS key is disabled"):
        snapshot_progress(ec2, identifier)
    with pytest.raises(CloudNotFound, match=f"found {identifier} error"):
        newest_snapshot(ec2, "tiny_imagenet", "v1")


def test_failed_copy_is_terminal(ec2: Any, target: Any, proxy: FaultProxy, volume: str) -> None:
    copy = copy_snapshot(taken(ec2, volume), REGION, target, tags=TAGS)
    fail_described(proxy)
    with pytest.raises(SnapshotFailed, match="KMS key is disabled"):
        snapshot_progress(target, copy["SnapshotId"])


def test_failed_snapshot_is_told_before_another_is_begun(
    ec2: Any, proxy: FaultProxy, volume: str
) -> None:
    first = taken(ec2, volume)["SnapshotId"]
    fail_described(proxy)
    with pytest.raises(SnapshotFailed, match="KMS key is disabled"):
        taken(ec2, volume)
    assert proxy.calls.count("CreateSnapshot") == 1
    assert taken(ec2, volume)["SnapshotId"] != first


def test_copy_that_is_not_shown_yet_is_asked_for_again(
    ec2: Any, target: Any, proxy: FaultProxy, volume: str
) -> None:
    source = taken(ec2, volume)
    empty = b"<DescribeSnapshotsResponse><snapshotSet/></DescribeSnapshotsResponse>"
    proxy.rewrite("DescribeSnapshots", lambda _: empty)
    with pytest.raises(StillPending, match=r"copy snap-\w+ was begun"):
        copy_snapshot(source, REGION, target, tags=TAGS)
    proxy.heal()
    assert copy_snapshot(source, REGION, target, tags=TAGS)["State"] == "completed"
    assert proxy.calls.count("CopySnapshot") == 1


def test_lost_reply_leaves_one_snapshot(ec2: Any, proxy: FaultProxy, volume: str) -> None:
    proxy.drop_reply("CreateSnapshot")
    snapshot = taken(ec2, volume)
    assert proxy.calls.count("CreateSnapshot") == 1
    assert [item["SnapshotId"] for item in find_snapshots(ec2, TAGS)] == [snapshot["SnapshotId"]]


def test_lost_reply_that_shows_late_is_found_by_the_rerun(
    ec2: Any, proxy: FaultProxy, volume: str
) -> None:
    empty = b"<DescribeSnapshotsResponse><snapshotSet/></DescribeSnapshotsResponse>"
    proxy.drop_reply("CreateSnapshot")
    # The account's view of it lags behind for as long as the first try looks.
    proxy.rewrite("DescribeSnapshots", lambda _: empty, times=4)
    with pytest.raises(CloudUnavailable, match="got no answer"):
        taken(ec2, volume)
    taken(ec2, volume)
    assert proxy.calls.count("CreateSnapshot") == 1


def test_lost_reply_leaves_one_copy(ec2: Any, target: Any, proxy: FaultProxy, volume: str) -> None:
    source = taken(ec2, volume)
    proxy.drop_reply("CopySnapshot")
    copy = copy_snapshot(source, REGION, target, tags=TAGS)
    assert proxy.calls.count("CopySnapshot") == 1
    assert tags_of(copy)[COPY_OF] == source["SnapshotId"]


def test_lost_reply_leaves_one_volume(ec2: Any, proxy: FaultProxy) -> None:
    proxy.drop_reply("CreateVolume")
    made = create_volume(ec2, VolumeRequest(ZONE, size_gib=8), "deploy-1")
    found = find_volume(ec2, "deploy-1")
    assert found is not None
    assert found["VolumeId"] == made
    assert proxy.calls.count("CreateVolume") == 1
    assert volume_progress(ec2, made).done


def test_lost_reply_of_an_attachment_keeps_its_name(
    ec2: Any, proxy: FaultProxy, volume: str
) -> None:
    image = "ami-12c6146b"
    reply = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": ZONE}
    )
    instance = reply["Instances"][0]["InstanceId"]
    proxy.drop_reply("AttachVolume")
    proxy.answer("AttachVolume", status=400, code="VolumeInUse", skip=0)
    assert attach_volume(ec2, volume, instance) == "/dev/sdf"


def test_command_whose_reply_was_lost_is_not_sent_again(proxy: FaultProxy) -> None:
    ssm = never_repeated(proxy.client("ssm"), "ssm")
    proxy.drop_reply("SendCommand")
    with pytest.raises(CloudUnavailable), typed_aws_errors("SendCommand", "a command"):
        ssm.send_command(InstanceIds=["i-1"], DocumentName="AWS-RunShellScript", Comment="once")
    assert proxy.calls.count("SendCommand") == 1


def test_volume_that_is_being_made_is_deleted_later(ec2: Any, proxy: FaultProxy) -> None:
    made = create_volume(ec2, VolumeRequest(ZONE, size_gib=8), "deploy-1")
    proxy.answer("DeleteVolume", status=400, code="IncorrectState")
    with pytest.raises(StillPending, match="found IncorrectState"):
        delete_volume(ec2, made)
    delete_volume(ec2, made)
    assert find_volume(ec2, "deploy-1") is None


def test_name_that_was_taken_meanwhile_is_left_to_the_other(
    ec2: Any, proxy: FaultProxy, volume: str
) -> None:
    image = "ami-12c6146b"
    reply = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": ZONE}
    )
    told = "Invalid value '/dev/sdf' for unixDevice. Attachment point /dev/sdf is already in use"
    proxy.answer("AttachVolume", status=400, code="InvalidParameterValue", message=told)
    assert attach_volume(ec2, volume, reply["Instances"][0]["InstanceId"]) == "/dev/sdg"


def test_call_that_never_arrived_is_made_by_the_rerun(
    ec2: Any, proxy: FaultProxy, volume: str
) -> None:
    proxy.drop_request("CreateSnapshot")
    with pytest.raises(CloudUnavailable):
        taken(ec2, volume)
    assert taken(ec2, volume)["State"] == "completed"
    assert len(find_snapshots(ec2, TAGS)) == 1


def test_servers_error_is_not_answered_by_a_second_call(
    ec2: Any, proxy: FaultProxy, volume: str
) -> None:
    proxy.answer("CreateSnapshot", status=500, code="InternalError")
    with pytest.raises(CloudUnavailable, match="InternalError"):
        taken(ec2, volume)
    assert proxy.calls.count("CreateSnapshot") == 1


def test_throttled_call_is_sent_again(ec2: Any, proxy: FaultProxy, volume: str) -> None:
    proxy.answer("CreateSnapshot", status=503, code="RequestLimitExceeded", times=2)
    assert taken(ec2, volume)["State"] == "completed"
    assert proxy.calls.count("CreateSnapshot") == 3
    assert len(find_snapshots(ec2, TAGS)) == 1


@pytest.mark.parametrize(
    ("code", "least_s"),
    [("ConcurrentSnapshotLimitExceeded", 60), ("SnapshotCreationPerVolumeRateExceeded", 15)],
)
def test_limit_that_lasts_is_waited_for_elsewhere(
    ec2: Any, proxy: FaultProxy, volume: str, code: str, least_s: float
) -> None:
    proxy.answer("CreateSnapshot", status=400, code=code)
    with pytest.raises(StillPending, match=code) as raised:
        taken(ec2, volume)
    assert raised.value.retry_after_s >= least_s
    assert taken(ec2, volume)["State"] == "completed"


def test_too_many_copies_at_once_are_waited_for(
    ec2: Any, target: Any, proxy: FaultProxy, volume: str
) -> None:
    source = taken(ec2, volume)
    proxy.answer("CopySnapshot", status=400, code="ResourceLimitExceeded")
    with pytest.raises(StillPending, match="ResourceLimitExceeded"):
        copy_snapshot(source, REGION, target, tags=TAGS)


def test_refused_shares_change_nothing(ec2: Any, proxy: FaultProxy, volume: str) -> None:
    snapshot, kms = taken(ec2, volume), proxy.client("kms")
    for accounts, licence in (((FRIEND, "all"), True), ((FRIEND,), False)):
        with pytest.raises(SharingRefused):
            share_snapshot(ec2, kms, snapshot, accounts, accept_licence=licence)
    assert "ModifySnapshotAttribute" not in proxy.calls


def test_share_under_the_default_key_is_refused_before_the_call(
    ec2: Any, proxy: FaultProxy, volume: str
) -> None:
    kms = proxy.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    proxy.rewrite("DescribeKey", lambda body: body.replace(b'"CUSTOMER"', b'"AWS"'))
    sealed = taken(ec2, volume) | {"Encrypted": True, "KmsKeyId": key}
    with pytest.raises(SharingRefused, match="default key"):
        share_snapshot(ec2, kms, sealed, (FRIEND,), accept_licence=True)
    assert "ModifySnapshotAttribute" not in proxy.calls


CHILD = """
import sys
from pathlib import Path
from tests.support.moto_server import MotoServer
from imagenet_etl.build import new_build
from imagenet_etl.config import Settings
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage
settings = Settings.from_json(Path(sys.argv[1]).read_text())
run_stage(new_build(settings, Owner("run-1"), MotoServer(sys.argv[2]).client), "snapshot_ebs")
"""


def test_crash_while_frozen_thaws_and_its_snapshot_is_not_used(
    tmp_path: Path, proxy: FaultProxy, moto: MotoServer, volume: str
) -> None:
    with loop_disk(tmp_path, "ext4") as disk:
        build = build_of(disk, tiny_zip(tmp_path), version="v1", ebs_volume_id=volume, freeze=True)
        run_stages(build)
        note = tmp_path / "settings.json"
        note.write_bytes(pretty_json(build.settings.to_json()))
        child: list[subprocess.Popen[bytes]] = []

        def kill(body: bytes) -> bytes:
            os.kill(child[0].pid, signal.SIGKILL)
            return body

        proxy.rewrite("CreateSnapshot", kill, times=1)
        root = Path(__file__).parents[2]
        child.append(
            subprocess.Popen(
                [sys.executable, "-c", CHILD, str(note), proxy.url],
                env=os.environ | {"PYTHONPATH": f"{root / 'include'}:{root}"},
            )
        )
        assert child[0].wait(timeout=60) == -signal.SIGKILL
        write = "import sys; open(sys.argv[1], 'w').write('x')"
        subprocess.run([sys.executable, "-c", write, str(disk / "thawed")], check=True, timeout=60)
        (lost,) = moto.client("ec2").describe_snapshots(
            Filters=[{"Name": "volume-id", "Values": [volume]}]
        )["Snapshots"]
        assert UNUSABLE in tags_of(lost)
        good = run_stage(with_settings(build, proxy.client), "snapshot_ebs").receipt.facts
        assert good["snapshot_id"] != lost["SnapshotId"]

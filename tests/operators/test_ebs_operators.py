"""The EBS operators, against a server: what they make, and that they make it once."""

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException
from tests.support.fault_proxy import FaultProxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws.ebs import volumes
from imagenet_etl.aws.ebs.tags import COPY_OF, tags_of
from imagenet_operators.ebs import (
    EbsAttachVolumeOperator,
    EbsCopySnapshotOperator,
    EbsCreateVolumeOperator,
    EbsShareSnapshotOperator,
    EbsTakeSnapshotOperator,
    create_volume,
)
from imagenet_operators.ebs.base import as_list, name_of_task

IMAGE = "ami-12c6146b"  # any will do for moto

pytestmark = pytest.mark.airflow

ZONE = "us-east-1a"
OTHER_ACCOUNT = "210987654321"


def context(run: str = "run-1", **ti: Any) -> dict[str, Any]:
    """Return what the operators read of a task's context."""
    known = {
        "dag_id": "backups", "run_id": run, "task_id": "task", "map_index": -1,
        "start_date": datetime.now(UTC), "get_first_reschedule_date": lambda _: None,
    }  # fmt: skip
    return {"ti": SimpleNamespace(**known | ti)}


@pytest.fixture
def volume(ec2: Any) -> str:
    return str(ec2.create_volume(AvailabilityZone=ZONE, Size=2)["VolumeId"])


@pytest.fixture
def snapshot(ec2: Any, volume: str) -> str:
    return str(ec2.create_snapshot(VolumeId=volume)["SnapshotId"])


def snapshots_of(ec2: Any, volume: str) -> list[dict[str, Any]]:
    filters = [{"Name": "volume-id", "Values": [volume]}]
    return list(ec2.describe_snapshots(Filters=filters)["Snapshots"])


def run_instance(ec2: Any) -> str:
    reply = ec2.run_instances(
        ImageId=IMAGE, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": ZONE}
    )
    return str(reply["Instances"][0]["InstanceId"])


def test_snapshot_is_taken_once_a_run(ec2: Any, volume: str) -> None:
    def take(run: str) -> str:
        task = EbsTakeSnapshotOperator(task_id="task", volume_id=volume, tags={"team": "vision"})
        return str(task.execute(context(run)))

    first = take("run-1")
    assert take("run-1") == first, "a retry or a cleared task finds it"
    assert take("run-2") != first
    found = {item["SnapshotId"]: tags_of(item) for item in snapshots_of(ec2, volume)}
    assert len(found) == 2
    assert found[first]["team"] == "vision"


def test_lost_reply_makes_no_second_snapshot(ec2: Any, volume: str, aws: FaultProxy) -> None:
    aws.drop_reply("CreateSnapshot")
    task = EbsTakeSnapshotOperator(task_id="task", volume_id=volume)
    taken = task.execute(context())
    assert [item["SnapshotId"] for item in snapshots_of(ec2, volume)] == [taken]


def test_link_leads_to_the_console(volume: str) -> None:
    task = EbsTakeSnapshotOperator(task_id="task", volume_id=volume)
    (link,) = task.operator_extra_links
    assert link.get_link(task, ti_key=None) == ""
    taken = task.execute(context())
    assert link.get_link(task, ti_key=None) == (
        "https://console.aws.amazon.com/ec2/home?region=us-east-1"
        f"#SnapshotDetails:snapshotId={taken}"
    )


def test_copies_go_to_each_region_once(moto: MotoServer, ec2: Any, snapshot: str) -> None:
    regions = ["eu-central-1", "us-west-2", "eu-central-1"]
    task = EbsCopySnapshotOperator(task_id="task", snapshot_id=snapshot, regions=regions)
    copies = task.execute(context())
    assert list(copies) == ["eu-central-1", "us-west-2"]
    assert task.execute(context("run-2")) == copies
    for region, copy in copies.items():
        found = moto.client("ec2", region).describe_snapshots(
            Filters=[{"Name": f"tag:{COPY_OF}", "Values": [snapshot]}]
        )
        assert [item["SnapshotId"] for item in found["Snapshots"]] == [copy]


def test_copy_has_no_tag_of_aws_and_is_not_taken_for_its_source(
    moto: MotoServer, ec2: Any, volume: str, aws: FaultProxy
) -> None:
    tags = {"team": "vision", "owner": "backup"}
    taken = EbsTakeSnapshotOperator(task_id="task", volume_id=volume, tags=tags).execute(context())
    reserved = b"<key>aws:backup:source-resource</key>"
    aws.rewrite("DescribeSnapshots", lambda body: body.replace(b"<key>owner</key>", reserved))
    task = EbsCopySnapshotOperator(task_id="task", snapshot_id=taken, regions="us-west-2")
    copies = task.execute(context())
    reply = moto.client("ec2", "us-west-2").describe_snapshots(SnapshotIds=[copies["us-west-2"]])
    assert tags_of(reply["Snapshots"][0]) == {"team": "vision", COPY_OF: taken}


@pytest.mark.parametrize(
    "given",
    [("a-1", "b-2"), ["a-1", "b-2"], "a-1,b-2", " a-1, b-2 ", "['a-1', 'b-2']", '["a-1","b-2"]'],
)
def test_list_may_come_as_a_list_as_text_or_from_a_template(given: Any) -> None:
    assert as_list(given) == ["a-1", "b-2"]
    assert as_list("") == as_list("[]") == []


def test_snapshot_is_shared_with_those_who_lack_it(ec2: Any, snapshot: str) -> None:
    def share(accounts: list[str]) -> Any:
        return EbsShareSnapshotOperator(
            task_id="task", snapshot_id=snapshot, accounts=accounts, accept_licence=True
        ).execute(context())

    assert share([OTHER_ACCOUNT]) == [OTHER_ACCOUNT]
    assert share([OTHER_ACCOUNT, "333333333333"]) == ["333333333333"]
    reply = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    users = {item["UserId"] for item in reply["CreateVolumePermissions"]}
    assert users == {OTHER_ACCOUNT, "333333333333"}


@pytest.mark.parametrize(
    ("accounts", "accept", "told"),
    [([OTHER_ACCOUNT], False, "licence"), (["all"], True, "'all'"), (["12"], "True", "12 digits")],
)
def test_sharing_is_refused_before_anything_changes(
    aws: FaultProxy, snapshot: str, accounts: list[str], accept: Any, told: str
) -> None:
    task = EbsShareSnapshotOperator(
        task_id="task", snapshot_id=snapshot, accounts=accounts, accept_licence=accept
    )
    with pytest.raises(AirflowFailException, match=rf"SharingRefused.*{told}"):
        task.execute(context())
    assert "ModifySnapshotAttribute" not in aws.calls


def test_volume_is_created_once_for_its_name(ec2: Any, snapshot: str, aws: FaultProxy) -> None:
    def create(run: str, **more: Any) -> str:
        task = EbsCreateVolumeOperator(
            task_id="task", availability_zone=ZONE, snapshot_id=snapshot, iops="4000",
            throughput_mib_s=250, tags={"team": "vision"}, **more,
        )  # fmt: skip
        return str(task.execute(context(run)))

    aws.drop_reply("CreateVolume")
    first = create("run-1")
    assert create("run-1") == first
    assert create("run-2") != first
    assert create("run-2", name="shared") == create("run-3", name="shared")
    (volume,) = ec2.describe_volumes(VolumeIds=[first])["Volumes"]
    assert (volume["SnapshotId"], volume["Iops"], volume["Size"]) == (snapshot, 4000, 2)
    assert tags_of(volume)["team"] == "vision"
    made = [item for item in ec2.describe_volumes()["Volumes"] if "team" in tags_of(item)]
    assert len(made) == 3


@pytest.mark.parametrize(("name", "tokens"), [("shared", 1), ("", 2)])
def test_runs_that_ask_for_one_name_at_once_ask_by_one_token(
    ec2: Any, monkeypatch: pytest.MonkeyPatch, name: str, tokens: int
) -> None:
    now = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    monkeypatch.setattr(create_volume.timezone, "utcnow", lambda: now)
    monkeypatch.setattr(volumes, "find_volume", lambda *_: None)  # neither sees the other's
    asked, created = set(), volumes._created

    def noting(*args: Any) -> Any:
        asked.add(args[-1])
        return created(*args)

    monkeypatch.setattr(volumes, "_created", noting)
    for run in ("run-1", "run-2"):
        EbsCreateVolumeOperator(
            task_id="task", availability_zone=ZONE, size_gib=5, name=name
        ).execute(context(run))
    assert len(asked) == tokens


def test_empty_volume_is_created(ec2: Any) -> None:
    task = EbsCreateVolumeOperator(task_id="task", availability_zone=ZONE, size_gib=5)
    (volume,) = ec2.describe_volumes(VolumeIds=[task.execute(context())])["Volumes"]
    assert (volume["Size"], volume["AvailabilityZone"]) == (5, ZONE)


def test_impossible_volume_is_refused_before_the_call(aws: FaultProxy) -> None:
    task = EbsCreateVolumeOperator(task_id="task", availability_zone=ZONE, size_gib=5, iops=1)
    with pytest.raises(AirflowFailException, match="ConfigError: iops"):
        task.execute(context())
    assert aws.calls == []


def test_volume_is_attached_once_under_a_free_name(ec2: Any, volume: str, aws: FaultProxy) -> None:
    instance = run_instance(ec2)
    other = ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
    ec2.attach_volume(VolumeId=other, InstanceId=instance, Device="/dev/sdf")
    task = EbsAttachVolumeOperator(task_id="task", volume_id=volume, instance_id=instance)
    assert task.execute(context()) == task.execute(context()) == "/dev/sdg"
    assert aws.calls.count("AttachVolume") == 1


def test_attachment_that_ec2_does_not_show_yet_is_waited_for(
    ec2: Any, volume: str, aws: FaultProxy
) -> None:
    none = re.compile(rb"<attachmentSet>.*?</attachmentSet>", re.DOTALL)
    aws.rewrite("DescribeVolumes", lambda body: none.sub(b"<attachmentSet/>", body))
    task = EbsAttachVolumeOperator(task_id="task", volume_id=volume, instance_id=run_instance(ec2))
    with pytest.raises(AirflowRescheduleException):
        task.execute(context())
    aws.heal()
    assert task.execute(context()) == "/dev/sdf"
    assert aws.calls.count("AttachVolume") == 1


def test_missing_things_fail_at_once_and_are_named(aws: FaultProxy) -> None:
    missing = "snap-0123456789abcdef0"
    task = EbsCopySnapshotOperator(task_id="task", snapshot_id=missing, regions=["us-west-2"])
    with pytest.raises(AirflowFailException, match=rf"CloudNotFound: {missing}"):
        task.execute(context())


def test_name_of_a_task_is_a_tag_value_and_tells_copies_apart() -> None:
    assert name_of_task(context()) == "backups/run-1/task"
    assert name_of_task(context(map_index=3)) == "backups/run-1/task/3"
    manual = "manual__2026-01-01T00:00:00+00:00"
    assert name_of_task(context(manual)) == f"backups/{manual}/task"
    for long in ("é", "x" * 300):
        assert len(name_of_task(context(long))) == 64

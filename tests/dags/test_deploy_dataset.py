"""The DAG that puts a dataset under instances, run whole by Airflow."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.dags.conftest import Site
from tests.support.airflow_runs import Run, aws_connection, run_dag
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws.deploy import READY
from imagenet_etl.aws.ebs.tags import DEPLOYMENT, DatasetTags, tag_specification, tags_of

IMAGE = "ami-12c6146b"  # any will do for moto

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

ZONES = ("us-east-1a", "us-east-1b")


def instances(moto: MotoServer) -> list[str]:
    """Start an instance in each zone."""
    ec2 = moto.client("ec2")
    return [
        ec2.run_instances(
            ImageId=IMAGE, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": zone}
        )["Instances"][0]["InstanceId"]
        for zone in ZONES
    ]


def deploy(ids: list[str], **conf: Any) -> Run:
    return run_dag("deploy_dataset", {"dataset": "tiny_imagenet", "instance_ids": ids} | conf)


def deployed(moto: MotoServer) -> list[dict[str, Any]]:
    """Every volume that a deployment has made."""
    filters = [{"Name": "tag-key", "Values": [DEPLOYMENT]}]
    return list(moto.client("ec2").describe_volumes(Filters=filters)["Volumes"])


def scripts(moto: MotoServer, volume_id: str) -> list[str]:
    """What was to be run for a volume, in that order; moto sends each command to all instances."""
    commands = moto.client("ssm").list_commands()["Commands"]
    sent = [command["Parameters"]["commands"][0] for command in commands]
    return [script for script in sent if volume_id in script]


def states(run: Run, index: int) -> dict[str, str]:
    """What became of the steps of one instance."""
    return {
        task.removeprefix("instance.").partition("[")[0]: state
        for task, state in run.tasks.items()
        if task.endswith(f"[{index}]")
    }


def shown(run: Run, task: str) -> set[str]:
    """What the grid shows for the copies of a mapped task."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(TaskInstance.rendered_map_index).filter_by(
            run_id=run.run_id, task_id=f"instance.{task}"
        )
        return {row[0] for row in found}


def test_snapshot_of_a_run_arrives_on_two_instances_once(site: Site) -> None:
    built = site.run(s3_uri="none")
    assert built.state == "success", built.tasks
    assert built.tasks["snapshot_ebs"] == "success"
    (snapshot,) = site.snapshots()
    manifest = json.loads((site.version() / "manifest.json").read_text())
    ids = instances(site.moto)
    run = deploy(ids, mount_point="/mnt/data", verify="full")
    assert run.state == "success", run.tasks
    assert set(states(run, 0).values()) == set(states(run, 1).values()) == {"success"}
    assert run.tasks["instance.clean_up"] == "skipped"
    volumes = deployed(site.moto)
    places = {item["Attachments"][0]["InstanceId"]: item["AvailabilityZone"] for item in volumes}
    assert places == dict(zip(ids, ZONES, strict=True))
    version = manifest["version"]
    for volume in volumes:
        (attachment,) = volume["Attachments"]
        assert volume["SnapshotId"] == snapshot["SnapshotId"]
        tags = tags_of(volume)
        assert tags[DEPLOYMENT] == f"tiny_imagenet/{version}@{attachment['InstanceId']}:/mnt/data"
        assert READY in tags
        told = DatasetTags.of(volume)
        assert (told.dataset, told.version) == ("tiny_imagenet", version)
        mount, verify = scripts(site.moto, volume["VolumeId"])
        assert "/mnt/data" in mount
        assert f"/mnt/data/{told.path}" in verify
        assert told.manifest_sha256 in verify
    assert shown(run, "mount") == set(ids)


@pytest.fixture
def proxy(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(moto.url) as proxy, aws_connection(monkeypatch, proxy.url):
        yield proxy


def test_failed_steps_leave_no_volume_and_a_failed_run(moto: MotoServer, proxy: FaultProxy) -> None:
    ec2 = moto.client("ec2")
    blank = ec2.create_volume(AvailabilityZone=ZONES[0], Size=1)["VolumeId"]
    tags = DatasetTags("tiny_imagenet", "v1", "0" * 64, "datasets/tiny_imagenet/v1").to_dict()
    ec2.create_snapshot(VolumeId=blank, TagSpecifications=tag_specification("snapshot", tags))
    ids = [*instances(moto), instances(moto)[0]]
    proxy.answer("AttachVolume", status=400, code="UnsupportedOperation")
    proxy.rewrite(
        "GetCommandInvocation", lambda body: body.replace(b'"Success"', b'"Failed"'), times=1
    )
    run = deploy(ids)
    assert run.state == "failed"
    # Airflow takes mapped tasks in no fixed order.
    copies = {states(run, index)["mount"]: (index, states(run, index)) for index in range(3)}
    assert copies.keys() == {"upstream_failed", "failed", "success"}
    (_, refused), (_, unmounted) = copies["upstream_failed"], copies["failed"]
    assert (refused["attach_volume"], unmounted["attach_volume"]) == ("failed", "success")
    assert refused["clean_up"] == unmounted["clean_up"] == "success"
    number, fine = copies["success"]
    assert (fine["report"], fine["clean_up"]) == ("success", "skipped")
    (kept,) = deployed(moto)
    assert kept["Attachments"][0]["InstanceId"] == ids[number]

"""The steps of a deployment one by one: what they find, make and refuse."""

import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from tests.support.deploy_steps import context, deployed, resolved, snapshot_of, step
from tests.support.fault_proxy import FaultProxy

from imagenet_etl.aws.deployment import Wanted
from imagenet_etl.aws.ebs.tags import DatasetTags
from imagenet_etl.errors import ConfigError
from imagenet_operators import deploy, deploy_commands, deploy_form

pytestmark = pytest.mark.airflow


def test_newest_usable_snapshot_is_taken(ec2: Any, instance: str) -> None:
    time.sleep(1.1)  # moto gives StartTime in whole seconds
    wanted = snapshot_of(ec2, DatasetTags("tiny_imagenet", "v2", "1" * 64, "x/v2"))
    snapshot_of(ec2, **{"imagenet-etl:unusable": "thawed too early"})
    snapshot_of(ec2, DatasetTags("ilsvrc2012", "v3", "2" * 64, "x/v3"))
    (found,) = resolved(instance, instance)
    assert (found["snapshot_id"], found["version"], found["path"]) == (wanted, "v2", "x/v2")
    assert resolved(instance, version="v1")[0]["version"] == "v1"


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"version": "v9"}, r"CloudNotFound.*version v9, in us-east-1.*a snapshot: v1"),
        ({"region": "eu-central-1"}, "CloudNotFound.*eu-central-1"),
        ({"availability_zone": "us-east-1b"}, "CloudError.*expected us-east-1b, found us-east-1a"),
        ({"instance_ids": []}, "no instance is given"),
        ({"instance_ids": ["i-0123456789abcdef0"]}, "i-0123456789abcdef0 is not in us-east-1"),
        ({"instance_ids": ["web"]}, "ConfigError: instance 'web'"),
        ({"mount_point": "/data; rm -rf /"}, "ConfigError: the mount point"),
        ({"mount_point": "/data/"}, "ConfigError: the mount point"),
        ({"shared_by": "all"}, "ConfigError: the account that shares the snapshot"),
    ],
)
def test_what_cannot_be_deployed_is_refused_by_name(
    instance: str, params: dict[str, Any], told: str
) -> None:
    with pytest.raises(AirflowFailException, match=told):
        resolved(*params.pop("instance_ids", [instance]), **params)


def test_instance_that_does_not_run_is_refused(ec2: Any, instance: str) -> None:
    ec2.stop_instances(InstanceIds=[instance])
    with pytest.raises(AirflowFailException, match=f"{instance} does not run.*found stopped"):
        resolved(instance)


def test_no_filter_gets_more_instances_than_ec2_takes(aws: FaultProxy, instance: str) -> None:
    missing = [f"i-{number:08x}" for number in range(200)]
    with pytest.raises(AirflowFailException, match="i-00000000 is not in"):
        resolved(*missing, instance)
    assert aws.calls.count("DescribeInstances") == 2


@pytest.mark.parametrize(
    ("path", "digest"), [("", "0" * 64), ("my data/v0", "0" * 64), ("x/v0", "none")]
)
def test_snapshot_that_does_not_say_where_its_data_is_cannot_be_verified(
    ec2: Any, instance: str, path: str, digest: str
) -> None:
    snapshot_of(ec2, DatasetTags("tiny_imagenet", "v0", digest, path))
    with pytest.raises(AirflowFailException, match="does not say what to verify"):
        resolved(instance, version="v0")
    assert resolved(instance, version="v0", verify="none")


def test_snapshot_of_another_account_needs_no_tags(ec2: Any, instance: str) -> None:
    told = DatasetTags("tiny_imagenet", "v4", "4" * 64, "x/v4")
    source = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    shared = ec2.create_snapshot(VolumeId=source, Description=told.description())["SnapshotId"]
    owner = "123456789012"  # moto's account
    (found,) = resolved(instance, shared_by=owner)
    assert (found["snapshot_id"], found["version"], found["path"]) == (shared, "v4", "x/v4")
    assert found["manifest_sha256"] == "4" * 64
    with pytest.raises(AirflowFailException, match=r"CloudNotFound.*account 111122223333 shares"):
        resolved(instance, shared_by="111122223333")


def test_second_run_of_a_form_finds_the_volume_of_the_first(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any]
) -> None:
    (volume,) = deployed(ec2)
    (again,) = resolved(attached["instance_id"], verify="none")
    later = context()
    later["ti"].run_id = "run-2"
    assert step(deploy.DeployVolumeOperator, again).execute(later) == volume["VolumeId"]
    step(deploy.DeployAttachOperator, again).execute(later)
    assert (aws.calls.count("CreateVolume"), aws.calls.count("AttachVolume")) == (1, 1)


def test_volume_ends_with_its_instance_unless_the_form_says_not_to(
    aws: FaultProxy, instance: str
) -> None:
    for wanted in (False, True):
        (deployment,) = resolved(instance, delete_on_termination=wanted)
        step(deploy.DeployVolumeOperator, deployment).execute(context())
        step(deploy.DeployAttachOperator, deployment).execute(context())
        assert ("ModifyInstanceAttribute" in aws.calls) is wanted
        report = step(deploy.DeployReportOperator, deployment).execute(context())["text"]
        assert ("with the instance" in report) is wanted


def test_mapped_steps_are_shown_by_their_instance(attached: dict[str, Any]) -> None:
    task = step(deploy_commands.DeployMountOperator, attached)
    assert task.map_index_template == "{{ task.deployment['instance_id'] }}"


def test_form_and_library_agree() -> None:
    params = {name: param.value for name, param in deploy_form.deploy_form().items()}
    assert deploy_form.wanted(params) == Wanted("tiny_imagenet", version="")
    assert deploy_form.wanted({"dataset": "ilsvrc2012", "iops": None}) == Wanted("ilsvrc2012")
    with pytest.raises(ConfigError, match="verify 'some'"):
        deploy_form.wanted(params | {"verify": "some"})

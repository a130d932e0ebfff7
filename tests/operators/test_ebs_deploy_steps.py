"""The steps of a deployment one by one: what they find, send, refuse and take away."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from tests.support.airflow_runs import aws_connection
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws.deploy import READY, VERIFY, Wanted
from imagenet_etl.aws.ebs import once
from imagenet_etl.aws.ebs.tags import DEPLOYMENT, DatasetTags, tag_specification, tags_of
from imagenet_etl.aws.ebs.volume_request import TYPES
from imagenet_etl.errors import ConfigError
from imagenet_operators import deploy, deploy_commands, deploy_form

IMAGE = "ami-12c6146b"  # one of moto's own

pytestmark = pytest.mark.airflow

ZONE = "us-east-1a"
TOLD = DatasetTags("tiny_imagenet", "v1", "0" * 64, "datasets/tiny_imagenet/v1")

Change = Callable[[bytes], bytes]


def context(try_number: int = 1, **params: Any) -> dict[str, Any]:
    """Return what the steps read of a task's context."""
    now = datetime.now(UTC)
    ti = SimpleNamespace(
        dag_id="deploy_dataset", run_id="run-1", task_id="step", map_index=0, start_date=now,
        try_number=try_number, get_first_reschedule_date=lambda _: None,
    )  # fmt: skip
    values = {name: param.value for name, param in deploy_form.deploy_form().items()}
    run = SimpleNamespace(run_after=now, start_date=now)
    return {"ti": ti, "params": values | params, "dag_run": run}


@pytest.fixture
def aws(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(once, "WAITS_S", (0.01,))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with fault_proxy(moto.url) as proxy, aws_connection(monkeypatch, proxy.url):
        yield proxy


@pytest.fixture
def ec2(moto: MotoServer, aws: FaultProxy) -> Any:
    return moto.client("ec2")


def snapshot_of(ec2: Any, tags: DatasetTags = TOLD, **more: str) -> str:
    volume = ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
    told = tag_specification("snapshot", tags.to_dict() | more)
    made = ec2.create_snapshot(VolumeId=volume, TagSpecifications=told)
    ec2.delete_volume(VolumeId=volume)
    return str(made["SnapshotId"])


@pytest.fixture
def instance(ec2: Any) -> str:
    snapshot_of(ec2)
    reply = ec2.run_instances(
        ImageId=IMAGE, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": ZONE}
    )
    return str(reply["Instances"][0]["InstanceId"])


def resolved(*instances: str, **params: Any) -> list[dict[str, Any]]:
    task = deploy.ResolveDeploymentsOperator(task_id="resolve")
    return list(task.execute(context(instance_ids=list(instances), **params)))


def step(kind: type, deployment: dict[str, Any], **arguments: Any) -> Any:
    return kind(task_id="step", deployment=deployment, **arguments)


@pytest.fixture
def attached(instance: str) -> dict[str, Any]:
    """A deployment up to its attachment."""
    (deployment,) = resolved(instance)
    for kind in (deploy.DeployVolumeOperator, deploy.DeployAttachOperator):
        step(kind, deployment).execute(context())
    return deployment


def deployed(ec2: Any) -> list[dict[str, Any]]:
    filters = [{"Name": "tag-key", "Values": [DEPLOYMENT]}]
    return list(ec2.describe_volumes(Filters=filters)["Volumes"])


def sent(moto: MotoServer, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    ssm = moto.client("ssm")
    return list(ssm.list_commands(InstanceId=deployment["instance_id"])["Commands"])


def says(status: str, **more: Any) -> Change:
    """Return a change of what GetCommandInvocation tells."""
    told = {"Status": status, "StatusDetails": status}
    return lambda body: json.dumps(json.loads(body) | told | more).encode()


def mount(deployment: dict[str, Any], try_number: int = 1) -> Any:
    return step(deploy_commands.DeployMountOperator, deployment).execute(context(try_number))


def clean_up(deployment: dict[str, Any]) -> Any:
    return step(deploy.DeployCleanUpOperator, deployment).execute(context())


def test_newest_usable_snapshot_is_taken(ec2: Any, instance: str) -> None:
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
        ({"mount_point": "/data; rm -rf /"}, "ConfigError: mount point"),
    ],
)
def test_what_cannot_be_deployed_is_refused_by_name(
    instance: str, params: dict[str, Any], told: str
) -> None:
    with pytest.raises(AirflowFailException, match=told):
        resolved(*params.pop("instance_ids", [instance]), **params)


def test_snapshot_that_does_not_say_where_its_data_is_cannot_be_verified(
    ec2: Any, instance: str
) -> None:
    snapshot_of(ec2, DatasetTags("tiny_imagenet", "v0", "0" * 64, ""))
    with pytest.raises(AirflowFailException, match="does not say what to verify"):
        resolved(instance, version="v0")
    assert resolved(instance, version="v0", verify="none")


def test_mount_is_sent_once_a_try(moto: MotoServer, attached: dict[str, Any]) -> None:
    assert mount(attached) == mount(attached)
    assert mount(attached, try_number=2) != mount(attached)
    assert len(sent(moto, attached)) == 2
    (volume,) = deployed(moto.client("ec2"))
    assert volume["VolumeId"] in sent(moto, attached)[0]["Parameters"]["commands"][0]
    assert all(len(command["Comment"]) <= 100 for command in sent(moto, attached))


def test_verification_that_has_succeeded_is_not_repeated(
    moto: MotoServer, attached: dict[str, Any]
) -> None:
    verify = step(deploy_commands.DeployVerifyOperator, attached | {"verify": "full"})
    assert verify.execute(context()) == verify.execute(context(try_number=2))
    (command,) = sent(moto, attached)
    assert TOLD.manifest_sha256 in command["Parameters"]["commands"][0]
    assert command["Parameters"]["executionTimeout"] == ["172800"]


def test_verification_that_nobody_wants_is_skipped(attached: dict[str, Any]) -> None:
    verify = step(deploy_commands.DeployVerifyOperator, attached | {"verify": "none"})
    with pytest.raises(AirflowSkipException):
        verify.execute(context())


def test_command_is_waited_for_without_a_slot(
    aws: FaultProxy, moto: MotoServer, attached: dict[str, Any]
) -> None:
    aws.answer("GetCommandInvocation", status=400, code="InvocationDoesNotExist")
    aws.rewrite("GetCommandInvocation", says("InProgress"), times=1)
    for _ in range(2):
        with pytest.raises(AirflowRescheduleException):
            mount(attached)
    mount(attached)
    assert len(sent(moto, attached)) == 1


def test_failed_command_tells_its_last_words(aws: FaultProxy, attached: dict[str, Any]) -> None:
    words = "x" * 9000 + " mount: wrong fs type"
    change = says("Failed", ResponseCode=32, StandardErrorContent=words)
    aws.rewrite("GetCommandInvocation", change)
    with pytest.raises(AirflowFailException, match=r"CommandFailed.*exit code 32.*fs type") as told:
        mount(attached)
    assert len(str(told.value)) < 4000


def test_command_over_its_deadline_fails(aws: FaultProxy, attached: dict[str, Any]) -> None:
    aws.rewrite("GetCommandInvocation", says("InProgress"))
    kind = deploy_commands.DeployMountOperator
    with pytest.raises(AirflowFailException, match=r"CommandFailed.*did not end in time"):
        step(kind, attached, deadline=timedelta(seconds=-10)).execute(context())


def test_agent_that_has_not_reported_yet_is_worth_a_retry(
    aws: FaultProxy, attached: dict[str, Any]
) -> None:
    aws.answer("SendCommand", status=400, code="InvalidInstanceId")
    with pytest.raises(AirflowException, match="AmazonSSMManagedInstanceCore") as caught:
        mount(attached)
    assert not isinstance(caught.value, AirflowFailException)
    mount(attached, try_number=2)


def test_half_made_volume_is_unmounted_detached_and_deleted(
    ec2: Any, moto: MotoServer, attached: dict[str, Any]
) -> None:
    mount(attached)
    assert len(clean_up(attached)) == 1
    assert deployed(ec2) == []
    assert [command["Comment"].split()[1] for command in sent(moto, attached)] == [
        "mount",
        "unmount",
    ]
    with pytest.raises(AirflowSkipException, match="nothing half made"):
        clean_up(attached)


def test_nothing_is_unmounted_that_this_run_has_not_mounted(
    ec2: Any, moto: MotoServer, attached: dict[str, Any]
) -> None:
    clean_up(attached)
    assert sent(moto, attached) == []
    assert deployed(ec2) == []


def test_silent_instance_does_not_keep_the_volume(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any]
) -> None:
    mount(attached)
    aws.answer("SendCommand", status=400, code="InvalidInstanceId")
    clean_up(attached)
    assert deployed(ec2) == []


def test_volume_that_was_ready_outlives_a_later_failure(ec2: Any, attached: dict[str, Any]) -> None:
    report = step(deploy.DeployReportOperator, attached).execute(context())
    for word in ("sudo umount /data", report["volume_id"], "/data/datasets/tiny_imagenet/v1"):
        assert word in report["text"]
    (volume,) = deployed(ec2)
    assert READY in tags_of(volume)
    with pytest.raises(AirflowSkipException, match="nothing half made"):
        clean_up(attached)
    assert deployed(ec2) == [volume]


def test_detachment_that_takes_long_makes_way(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any]
) -> None:
    aws.answer("DetachVolume", status=400, code="IncorrectState")
    with pytest.raises(AirflowRescheduleException):
        clean_up(attached)
    assert len(deployed(ec2)) == 1
    clean_up(attached)
    assert deployed(ec2) == []


def test_detachment_that_never_ends_is_given_up_by_name(
    aws: FaultProxy, attached: dict[str, Any]
) -> None:
    aws.answer("DetachVolume", status=400, code="IncorrectState", times=100)
    late = context()
    late["ti"].start_date -= timedelta(hours=1)
    with pytest.raises(
        AirflowFailException, match=r"VolumeFailed: volume vol-.*cannot be detached"
    ):
        step(deploy.DeployCleanUpOperator, attached).execute(late)


def test_form_and_library_agree() -> None:
    params = {name: param.value for name, param in deploy_form.deploy_form().items()}
    assert deploy_form.VERIFY == VERIFY
    assert set(deploy_form.VOLUME_TYPES) == set(TYPES)
    assert deploy_form.wanted(params) == Wanted("tiny_imagenet", version="")
    assert deploy_form.wanted({"dataset": "ilsvrc2012", "iops": None}) == Wanted("ilsvrc2012")
    with pytest.raises(ConfigError, match="verify 'some'"):
        deploy_form.wanted(params | {"verify": "some"})

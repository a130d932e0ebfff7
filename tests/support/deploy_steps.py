"""The steps of a deployment one by one, as Airflow runs them, without Airflow's scheduler."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from tests.support.moto_server import MotoServer

from imagenet_etl.aws.ebs.tags import DEPLOYMENT, DatasetTags, tag_specification
from imagenet_operators import deploy, deploy_commands, deploy_form

IMAGE = "ami-12c6146b"  # any will do for moto
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


def snapshot_of(ec2: Any, tags: DatasetTags = TOLD, **more: str) -> str:
    volume = ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
    told = tag_specification("snapshot", tags.to_dict() | more)
    made = ec2.create_snapshot(VolumeId=volume, TagSpecifications=told)
    ec2.delete_volume(VolumeId=volume)
    return str(made["SnapshotId"])


def resolved(*instances: str, **params: Any) -> list[dict[str, Any]]:
    task = deploy.ResolveDeploymentsOperator(task_id="resolve")
    return list(task.execute(context(instance_ids=list(instances), **params)))


def step(kind: type, deployment: dict[str, Any], **arguments: Any) -> Any:
    return kind(task_id="step", deployment=deployment, **arguments)


def deployed(ec2: Any) -> list[dict[str, Any]]:
    """Return every volume that a deployment has made."""
    filters = [{"Name": "tag-key", "Values": [DEPLOYMENT]}]
    return list(ec2.describe_volumes(Filters=filters)["Volumes"])


def sent(moto: MotoServer, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the commands that its instance was sent."""
    ssm = moto.client("ssm")
    return list(ssm.list_commands(InstanceId=deployment["instance_id"])["Commands"])


def says(status: str, **more: Any) -> Change:
    """Return a change of what GetCommandInvocation tells."""
    told = {"Status": status, "StatusDetails": status}
    return lambda body: json.dumps(json.loads(body) | told | more).encode()


def mount(deployment: dict[str, Any], try_number: int = 1) -> Any:
    return step(deploy_commands.DeployMountOperator, deployment).execute(context(try_number))


def verify(deployment: dict[str, Any]) -> Any:
    return step(deploy_commands.DeployVerifyOperator, deployment).execute(context())


def clean_up(deployment: dict[str, Any]) -> Any:
    return step(deploy.DeployCleanUpOperator, deployment).execute(context())

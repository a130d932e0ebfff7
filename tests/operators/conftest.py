"""What EBS operators meet: AWS behind a proxy, volumes and snapshots, an instance."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.airflow_runs import aws_connection
from tests.support.deploy_steps import IMAGE, ZONE, context, resolved, snapshot_of, step
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws import client_config
from imagenet_etl.aws.ebs import once
from imagenet_operators import deploy


@pytest.fixture
def aws(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(once, "WAITS_S", (0.01,))
    monkeypatch.setattr(client_config, "_ATTEMPTS", 1)
    with fault_proxy(moto.url) as proxy, aws_connection(monkeypatch, proxy.url):
        yield proxy


@pytest.fixture
def ec2(moto: MotoServer, aws: FaultProxy) -> Any:
    return moto.client("ec2")


@pytest.fixture
def volume(ec2: Any) -> str:
    return str(ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"])


@pytest.fixture
def snapshot(ec2: Any, volume: str) -> dict[str, Any]:
    """An empty volume's snapshot, as EC2 tells it."""
    return dict(ec2.create_snapshot(VolumeId=volume))


@pytest.fixture
def instance(ec2: Any) -> str:
    snapshot_of(ec2)
    reply = ec2.run_instances(
        ImageId=IMAGE, MinCount=1, MaxCount=1, Placement={"AvailabilityZone": ZONE}
    )
    return str(reply["Instances"][0]["InstanceId"])


@pytest.fixture
def attached(instance: str) -> dict[str, Any]:
    """A deployment up to its attachment."""
    (deployment,) = resolved(instance)
    for kind in (deploy.DeployVolumeOperator, deploy.DeployAttachOperator):
        step(kind, deployment).execute(context())
    return deployment

"""The IAM policies beside what the code asks of AWS: nothing is denied, nothing is left over."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.s3 import models as moto_models
from tests.support.builds import tiny_build
from tests.support.downloads import append
from tests.support.fault_proxy import fault_proxy
from tests.support.moto_server import MotoServer
from tests.support.recorded_calls import (
    Recorded,
    actions_of,
    actions_of_script,
    allowed_by,
    is_for_aws,
    policy_names,
    record_session_calls,
    statements,
)
from tests.support.storages import opened, staged
from tests.unit.aws.conftest import with_settings
from tests.unit.datastore.helpers import Site

from imagenet_etl.aws import s3_unfinished, ssm
from imagenet_etl.aws.deploy import Wanted, mark_ready, resolve, take_away
from imagenet_etl.aws.ebs import snapshot_state, tags
from imagenet_etl.aws.ebs.attachments import attach_volume, set_delete_on_termination
from imagenet_etl.aws.ebs.copies import copy_snapshot
from imagenet_etl.aws.ebs.sharing import share_snapshot
from imagenet_etl.aws.ebs.snapshots import create_snapshot
from imagenet_etl.aws.ebs.volumes import create_volume
from imagenet_etl.aws.s3_backup import back_up_to_s3
from imagenet_etl.aws.s3_restore import read_backed_up, restore_version
from imagenet_etl.aws.s3_upload import Sending
from imagenet_etl.aws.user_data import Consumer, Producer
from imagenet_etl.build import Build
from imagenet_etl.download import bucket_copy, part_object
from imagenet_etl.download.journal import RemoteFile
from imagenet_etl.download.part_object import PartObject
from imagenet_etl.errors import AccessDenied
from imagenet_etl.pipeline import receipts_up_to
from imagenet_etl.pruning import prune_versions
from imagenet_etl.stage import Place
from imagenet_etl.storage import Storage

PUBLISHED = tags.DatasetTags("tiny_imagenet", "v1", "ab" * 32, "datasets/tiny_imagenet/v1")
ZONE = "us-east-1a"


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with record_session_calls() as recorded:
        yield recorded


def check(recorded: Recorded, policy: str) -> None:
    """Hold what was called against one policy, in both directions."""
    assert recorded.calls
    assert recorded.not_allowed(policy) == []
    assert allowed_by(policy) - recorded.actions == set()


def snapshot_of(ec2: Any) -> dict[str, Any]:
    volume = ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
    return create_snapshot(ec2, volume, description="v1", tags=PUBLISHED.to_dict())


def test_the_producers_script() -> None:
    script = Producer("/data", 1, stripe_scratch="/scratch", stop_when_done=True).script()
    assert actions_of_script(script) == allowed_by("producer")


def test_the_consumers_script() -> None:
    assert actions_of_script(Consumer("a", "/data").script()) == allowed_by("consumer")


def test_a_backup_and_what_is_read_of_it(
    packed: Build,
    moto: MotoServer,
    tmp_path: Path,
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_unfinished, "IDLE_S", 0.0)
    moto.bucket("backups")
    build = with_settings(
        packed,
        moto.client,
        s3_uri="s3://backups/datasets",
        back_up=("archives", "dataset"),
        s3_tags={"team": "vision"},
    )
    orphan = {"Bucket": "backups", "Key": "datasets/tiny_imagenet/v1/recordio/train/orphan.rec"}
    moto.client("s3").create_multipart_upload(**orphan)
    sending = Sending(multipart_above=1000, options={"Tagging": "team=vision"})
    done = receipts_up_to(build, "verify")
    back_up_to_s3(Place(build, done, "digest", "base"), sending)
    fresh = tiny_build(tmp_path / "fresh", s3_uri=build.settings.s3_uri, version="v1")
    with replace(fresh, aws=moto.client).locked() as locked:
        restore_version(locked, read_backed_up(locked, "v1"))
    check(recorded, "backup")


def test_a_snapshot_its_copies_and_shares(moto: MotoServer, recorded: Recorded) -> None:
    ec2, kms = moto.client("ec2"), moto.client("kms")
    snapshot = snapshot_of(ec2)
    snapshot_state.mark_unusable(ec2, snapshot["SnapshotId"], "thawed early")
    snapshot_state.mark_usable(ec2, snapshot["SnapshotId"])
    copy_snapshot(
        snapshot, "us-east-1", moto.client("ec2", "eu-central-1"), tags=PUBLISHED.to_dict()
    )
    key = kms.create_key()["KeyMetadata"]["Arn"]
    encrypted = snapshot | {"Encrypted": True, "KmsKeyId": key}
    share_snapshot(ec2, kms, encrypted, ("111122223333",), accept_licence=True)
    check(recorded, "snapshot")


def test_a_deployment_and_its_end(moto: MotoServer, recorded: Recorded) -> None:
    ec2, client = moto.client("ec2"), moto.client("ssm")
    snapshot_of(ec2)
    recorded.calls.clear()
    image = "ami-12c6146b"
    place = {"AvailabilityZone": ZONE}
    run = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, Placement=place)
    instance = run["Instances"][0]["InstanceId"]
    (deployment,) = resolve(ec2, Wanted("tiny_imagenet"), [instance])
    volume = create_volume(ec2, deployment.volume_request(), deployment.name)
    attach_volume(ec2, volume, instance)
    set_delete_on_termination(ec2, instance, volume)
    command = ssm.Command(instance, "mount", "true", "a run")
    sent = ssm.send_command(client, command, datetime.now(UTC))
    ssm.command_progress(client, sent["CommandId"], instance)
    take_away(ec2, deployment)
    volume = create_volume(ec2, deployment.volume_request(), deployment.name + " again")
    mark_ready(ec2, volume)
    check(recorded, "deploy")


def test_pruning(moto: MotoServer, tmp_path: Path, recorded: Recorded) -> None:
    moto.bucket("backups")
    site = Site(tmp_path, moto, "s3://backups/x")
    snapshot = site.snapshot("v1")
    site.in_bucket("v1", time.time() - 9, snapshots={"us-east-1": snapshot})
    site.in_bucket("v2", time.time())
    recorded.calls.clear()
    prune_versions(site.store, 1, really=True)
    check(recorded, "prune")


def test_a_data_folder_in_a_bucket(
    moto: MotoServer, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagenet_etl.storage.s3_writing.MULTIPART_ABOVE", 1000)
    uri = moto.bucket("data")
    with fault_proxy(moto.url) as proxy, opened(f"{proxy.url} {uri}/x") as storage:
        storage.put("d/a", b"1")
        assert storage.read("d/a") == b"1"
        assert [key for key, _ in storage.list("d")] == ["d/a"]
        storage.publish("d/large", staged(storage, b"2" * 2000))
        storage.publish_tree("d", "e", "a")
        proxy.answer("UploadPart", status=403, code="AccessDenied")
        with pytest.raises(AccessDenied):
            storage.publish("d/refused", staged(storage, b"3" * 2000))
        storage.delete("e")
        relay_in_two_goes(storage, proxy.client("s3"), monkeypatch)
    check(recorded, "data_folder")


def relay_in_two_goes(storage: Storage, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on with a relayed archive in another process, and give it its name part by part."""
    monkeypatch.setattr(moto_models, "S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(part_object, "LEAST_PART", 1000)
    monkeypatch.setattr(bucket_copy, "AT_ONCE_BYTES", 1000)
    with PartObject(storage, client, "archive", lambda: None) as part:
        part.start(RemoteFile("u", '"1"', 2000))
        append(part, b"4" * 1000)
    with PartObject(storage, client, "archive", lambda: None) as part:
        assert part.proven_bytes == 1000
        append(part, b"4" * 1000)
        part.publish(part.digests()["sha256"])


def test_every_statement_has_a_name_and_a_resource_or_looks_only() -> None:
    for policy in policy_names():
        for statement in statements(policy):
            assert statement["Sid"].isalnum()
            assert not any("*" in action for action in statement["Action"])
            if statement["Resource"] == "*":
                verbs = ("ec2:Describe", "ssm:Get", "ssm:List")
                assert all(action.startswith(verbs) for action in statement["Action"])


def test_what_makes_changes_or_deletes_in_ec2_has_a_condition() -> None:
    for policy in policy_names():
        for statement in statements(policy):
            if any(a.startswith("ec2:") and ":Describe" not in a for a in statement["Action"]):
                assert statement["Condition"], (policy, statement["Sid"])


def test_a_condition_on_all_values_wants_one() -> None:
    """ForAllValues holds without any, and DeleteTags without keys takes all tags away."""
    for policy in policy_names():
        for statement in statements(policy):
            conditions = statement.get("Condition", {})
            for operator, keys in conditions.items():
                if operator.startswith("ForAllValues:"):
                    there = {key for key, null in conditions["Null"].items() if null == "false"}
                    assert set(keys) <= there, (policy, statement["Sid"])


@pytest.mark.parametrize("policy", ["producer", "consumer", "deploy"])
def test_what_is_done_to_a_volume_of_an_instance_is_allowed_on_both(policy: str) -> None:
    both = {"ec2:AttachVolume", "ec2:DetachVolume", "ec2:ModifyInstanceAttribute"}
    for action in both & allowed_by(policy):
        granted = [item["Resource"] for item in statements(policy) if action in item["Action"]]
        assert {resource.split(":")[-1] for resource in granted} == {"volume/*", "instance/*"}


def test_keys_are_used_through_the_services_alone() -> None:
    for policy in policy_names():
        for statement in statements(policy):
            names = set(statement["Action"])
            if any(name.startswith("kms:") for name in names) and names != {"kms:DescribeKey"}:
                assert is_for_aws(statement)


def test_policies_fit_into_iam() -> None:
    from tests.support.recorded_calls import POLICIES

    for policy in policy_names():
        # IAM does not count white space. Source: IAM User Guide, "IAM and AWS STS quotas".
        assert len("".join((POLICIES / f"{policy}.json").read_text().split())) <= 6144


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        (("s3", "UploadPart", {}), {"s3:PutObject"}),
        (("s3", "PutObject", {"IfMatch": "x"}), {"s3:PutObject", "s3:GetObject"}),
        (("s3", "PutObject", {"Tagging": "a=b"}), {"s3:PutObject", "s3:PutObjectTagging"}),
        (
            ("ec2", "CreateVolume", {"TagSpecifications": [1]}),
            {"ec2:CreateVolume", "ec2:CreateTags"},
        ),
        (("kms", "DescribeKey", {}), {"kms:DescribeKey"}),
    ],
)
def test_what_a_call_needs(call: tuple[str, str, dict[str, Any]], needed: set[str]) -> None:
    assert actions_of(*call) == needed


def test_calls_of_a_test_are_not_ours(moto: MotoServer, recorded: Recorded) -> None:
    moto.client("ec2").describe_regions()
    assert recorded.calls == set()


def test_a_call_that_no_policy_allows_is_told(moto: MotoServer, recorded: Recorded) -> None:
    recorded.calls.add(("ec2", "TerminateInstances", frozenset({"ec2:TerminateInstances"})))
    assert recorded.not_allowed() == ["ec2:TerminateInstances needs ec2:TerminateInstances"]

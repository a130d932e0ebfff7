"""The consumer's launch script: from a snapshot's tags to a mount that was checked."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.moto_server import MotoServer
from tests.support.stub_aws import ATTACHED, LOST, StubAws, stub_aws, volumes_in_error
from tests.support.stub_instance import (
    Instance,
    folder_unmounted_after,
    instance,
    launch_instance,
    loop_disk,
    run_as_file,
    source_of,
)

from imagenet_etl.aws.ebs import tags
from imagenet_etl.aws.ebs.tags import DEPLOYMENT, UNUSABLE, DatasetTags, tag_specification, tags_of
from imagenet_etl.aws.user_data import Consumer

ZONE = "us-east-1a"
PATH = "datasets/tiny_imagenet/v1"


def published(folder: Path) -> str:
    """Write a small version below the folder; returns the digest of its manifest."""
    version = folder / PATH
    version.mkdir(parents=True)
    (version / "train.rec").write_bytes(b"records" * 1000)
    data = (version / "train.rec").read_bytes()
    file = {"name": "train.rec", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = json.dumps({"files": [file]}).encode()
    (version / "manifest.json").write_bytes(manifest)
    return hashlib.sha256(manifest).hexdigest()


@dataclass
class Launched:
    """An instance, its account with a snapshot, and the disk that a volume of it will be."""

    machine: Instance
    aws: StubAws
    ec2: Any
    disk: Path
    point: Path
    manifest: str
    options: dict[str, Any] = field(default_factory=dict)

    def boot(self, dataset: str = "tiny_imagenet") -> subprocess.CompletedProcess[str]:
        text = Consumer(dataset, str(self.point), **self.options).script()
        env = self.machine.environment(self.aws.folder)
        return run_as_file(self.machine.root.parent, text, env)

    def snapshot(self, version: str = "v1", description: str = "", **more: str) -> str:
        """Take a snapshot that the tags say is of a version."""
        source = self.ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
        named = DatasetTags("tiny_imagenet", version, self.manifest, PATH).to_dict() | more
        reply = self.ec2.create_snapshot(
            VolumeId=source,
            Description=description,
            TagSpecifications=tag_specification("snapshot", named),
        )
        self.ec2.delete_volume(VolumeId=source)
        return str(reply["SnapshotId"])

    def volumes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ec2.describe_volumes(
            Filters=[{"Name": "tag-key", "Values": [DEPLOYMENT]}]
        )["Volumes"]
        return found


@pytest.fixture
def launched(tmp_path: Path, moto: MotoServer) -> Iterator[Launched]:
    ec2 = moto.client("ec2")
    digest = published(tmp_path / "content")
    with (
        loop_disk(tmp_path / "disk.img", 32) as disk,
        instance(tmp_path / "root", launch_instance(ec2, ZONE), ZONE) as machine,
        stub_aws(tmp_path / "bin", moto.client) as aws,
        folder_unmounted_after(tmp_path / "data") as point,
    ):
        words = ["mkfs.ext4", "-q", "-F", "-d", tmp_path / "content", disk]
        subprocess.run(words, check=True)
        aws.after["AttachVolume"] = lambda call: machine.plug(call["VolumeId"], disk)
        yield Launched(machine, aws, ec2, disk, point, digest)


def test_the_dataset_is_mounted_read_only_and_checked(launched: Launched) -> None:
    snapshot = launched.snapshot()
    done = launched.boot()
    assert done.returncode == 0, done.stdout + done.stderr
    (volume,) = launched.volumes()
    assert (volume["SnapshotId"], volume["AvailabilityZone"]) == (snapshot, ZONE)
    assert source_of(launched.point).startswith(f"{launched.disk} ro,")
    assert (launched.point / PATH / "train.rec").exists()
    assert "1 files are right, by size" in done.stdout
    log = launched.machine.root / "var/log/imagenet-etl-consumer.log"
    assert log.read_text() == done.stdout


def test_every_byte_is_read_when_asked_but_not_at_every_boot(launched: Launched) -> None:
    launched.snapshot()
    launched.options["verify"] = "full"
    assert "by content" in launched.boot().stdout
    assert "by size" in launched.boot().stdout


def test_the_volume_ends_with_the_instance(launched: Launched) -> None:
    launched.snapshot()
    launched.boot()
    (call,) = [call for name, call in launched.aws.calls if name == "ec2:ModifyInstanceAttribute"]
    (mapping,) = call["BlockDeviceMappings"]
    assert mapping == {"DeviceName": "/dev/sdf", "Ebs": {"DeleteOnTermination": True}}
    assert call["InstanceId"] == launched.machine.metadata["instance-id"]


def test_the_token_is_as_long_as_it_may_be(launched: Launched) -> None:
    launched.snapshot()
    launched.boot()
    (call,) = [call for name, call in launched.aws.calls if name == "ec2:CreateVolume"]
    assert re.fullmatch("[0-9a-f]{64}", call["ClientToken"])


def test_a_boot_after_a_deletion_is_not_led_to_what_is_gone(launched: Launched) -> None:
    launched.snapshot()
    launched.aws.fails["AttachVolume"] = "UnauthorizedOperation: no"
    assert launched.boot().returncode == 1
    launched.aws.grow_old()
    done = launched.boot()
    assert done.returncode == 0, done.stdout
    assert len(launched.volumes()) == 1


def test_a_path_may_hold_what_notations_are_made_of(launched: Launched) -> None:
    path = 'data, sets]/{a} "b" \\c=d'
    launched.options["verify"] = "none"
    launched.snapshot(**{tags.PATH: path})
    for _ in range(2):
        done = launched.boot()
        assert done.returncode == 0, done.stdout
        assert f"tiny_imagenet: {launched.point}/{path} (vol-" in done.stdout
    assert tags_of(launched.volumes()[0])[tags.PATH] == path


def test_a_snapshot_that_tells_no_path_makes_no_volume(launched: Launched) -> None:
    described = "imagenet-etl tiny_imagenet/v1"
    launched.snapshot(**{tags.PATH: ""}, description=described)
    done = launched.boot()
    assert done.returncode == 1
    assert "tells where in it tiny_imagenet is" in done.stdout
    assert launched.volumes() == []


def test_a_second_boot_finds_its_volume_even_when_there_is_a_newer_snapshot(
    launched: Launched,
) -> None:
    launched.snapshot()
    launched.boot()
    launched.snapshot("v2")
    subprocess.run(["umount", launched.point], check=True)
    done = launched.boot()
    assert done.returncode == 0, done.stdout
    assert launched.aws.names.count("ec2:CreateVolume") == 1
    assert len(launched.volumes()) == 1
    assert source_of(launched.point)
    assert "1 files are right" in done.stdout


def test_a_second_run_while_it_is_mounted_changes_nothing(launched: Launched) -> None:
    launched.snapshot()
    launched.boot()
    fstab = launched.machine.fstab.read_text()
    done = launched.boot()
    assert (done.returncode, "mounted already" in done.stdout) == (0, True)
    assert launched.machine.fstab.read_text() == fstab


def test_the_newest_usable_snapshot_is_taken(launched: Launched) -> None:
    launched.snapshot("v1")
    newest = launched.snapshot("v2")
    launched.snapshot("v3", **{UNUSABLE: "thawed early"})
    launched.boot()
    assert launched.volumes()[0]["SnapshotId"] == newest


def test_a_version_can_be_named(launched: Launched) -> None:
    first = launched.snapshot("v1")
    launched.snapshot("v2")
    launched.boot("tiny_imagenet@v1")
    assert launched.volumes()[0]["SnapshotId"] == first


@pytest.mark.parametrize("dataset", ["tiny_imagenet", "tiny_imagenet@v1"])
def test_what_another_account_shares_is_told_by_its_description(
    launched: Launched, dataset: str
) -> None:
    source = launched.ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
    told = DatasetTags("tiny_imagenet", "v1", launched.manifest, PATH)
    shared = launched.ec2.create_snapshot(VolumeId=source, Description=told.description())
    launched.ec2.create_snapshot(VolumeId=source, Description="imagenet-etl tiny_imagenet/v2")
    launched.options["shared_by"] = "111122223333"
    for _ in range(2):
        done = launched.boot(dataset)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 files are right" in done.stdout
    (volume,) = launched.volumes()
    assert volume["SnapshotId"] == shared["SnapshotId"]
    assert DatasetTags.of(volume).manifest_sha256 == launched.manifest
    looks = [call for name, call in launched.aws.calls if name == "ec2:DescribeSnapshots"]
    assert looks[0]["OwnerIds"] == ["111122223333"]


@pytest.mark.parametrize("dataset", ["ilsvrc2012", "tiny_imagenet@v9"])
def test_without_a_snapshot_it_says_so(launched: Launched, dataset: str) -> None:
    launched.snapshot()
    done = launched.boot(dataset)
    assert done.returncode == 1
    assert "no completed snapshot of" in done.stdout
    assert launched.volumes() == []


def test_an_unusable_snapshot_is_none(launched: Launched) -> None:
    launched.snapshot("v1", **{UNUSABLE: "thawed early"})
    assert "no completed snapshot of" in launched.boot().stdout


def test_a_manifest_that_is_not_the_tags_is_not_left_mounted(launched: Launched) -> None:
    launched.manifest = "0" * 64
    launched.snapshot()
    before = launched.machine.fstab.read_text()
    done = launched.boot()
    assert done.returncode == 1
    assert "does not hold tiny_imagenet" in done.stdout
    assert source_of(launched.point) == ""
    assert launched.machine.fstab.read_text() == before


@pytest.mark.parametrize("operation", ["AttachVolume", "ModifyInstanceAttribute"])
def test_a_volume_that_is_not_bound_to_the_instance_is_deleted_again(
    launched: Launched, operation: str
) -> None:
    launched.snapshot()
    launched.aws.fails[operation] = "UnauthorizedOperation: no"
    done = launched.boot()
    assert done.returncode == 1
    assert "UnauthorizedOperation" in done.stdout + done.stderr
    assert launched.volumes() == []


def test_a_lost_reply_makes_no_second_volume(launched: Launched) -> None:
    launched.snapshot()
    launched.aws.lost["CreateVolume"] = LOST
    assert launched.boot().returncode == 1
    assert launched.boot().returncode == 0
    assert len(launched.volumes()) == 1


@pytest.mark.parametrize("said", [LOST, ATTACHED])
def test_a_lost_reply_of_an_attachment_costs_no_volume(launched: Launched, said: str) -> None:
    launched.snapshot()
    launched.aws.lost["AttachVolume"] = said
    done = launched.boot()
    assert done.returncode == 0, done.stdout + done.stderr
    assert source_of(launched.point)
    (volume,) = launched.volumes()
    (call,) = [call for name, call in launched.aws.calls if name == "ec2:ModifyInstanceAttribute"]
    assert call["BlockDeviceMappings"][0]["DeviceName"] == volume["Attachments"][0]["Device"]


def test_a_new_volume_in_an_error_is_deleted_again(launched: Launched) -> None:
    launched.snapshot()
    launched.aws.altered["DescribeVolumes"] = volumes_in_error
    done = launched.boot()
    assert done.returncode == 1
    assert "ended in an error" in done.stdout
    assert launched.volumes() == []


def test_an_earlier_boots_volume_in_an_error_makes_room_for_another(launched: Launched) -> None:
    launched.snapshot()
    launched.aws.altered["DescribeVolumes"] = volumes_in_error
    launched.aws.fails["DeleteVolume"] = "RequestLimitExceeded"
    assert launched.boot().returncode != 0
    assert len(launched.volumes()) == 1
    assert launched.boot().returncode == 1
    assert launched.volumes() == []
    launched.aws.altered.clear()
    launched.aws.grow_old()
    assert launched.boot().returncode == 0


def test_the_volume_carries_what_a_later_boot_needs(launched: Launched) -> None:
    launched.snapshot()
    launched.boot()
    there = tags_of(launched.volumes()[0])
    assert DatasetTags.of(launched.volumes()[0]).manifest_sha256 == launched.manifest
    instance_id = launched.machine.metadata["instance-id"]
    assert there[DEPLOYMENT] == f"{instance_id}:{launched.point}"

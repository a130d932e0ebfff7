"""The producer's launch script, on an instance whose disks are loop devices."""

import os
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
    partition_disk,
    run_as_file,
    source_of,
)

from imagenet_etl.aws.user_data import VOLUME_TAG, Producer

ZONE = "us-east-1a"


@dataclass
class Launched:
    """An instance, its account, and the disk that its volume will be."""

    machine: Instance
    aws: StubAws
    ec2: Any
    disk: Path
    point: Path
    options: dict[str, Any] = field(default_factory=dict)

    def boot(self) -> subprocess.CompletedProcess[str]:
        options = {"owner": "1000:1000"} | self.options
        text = Producer(str(self.point), 1, **options).script()
        env = self.machine.environment(self.aws.folder)
        return run_as_file(self.machine.root.parent, text, env)

    def volumes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ec2.describe_volumes(
            Filters=[{"Name": "tag-key", "Values": [VOLUME_TAG]}]
        )["Volumes"]
        return found


@pytest.fixture
def launched(tmp_path: Path, moto: MotoServer) -> Iterator[Launched]:
    ec2 = moto.client("ec2")
    with (
        loop_disk(tmp_path / "disk.img") as disk,
        instance(tmp_path / "root", launch_instance(ec2, ZONE), ZONE) as machine,
        stub_aws(tmp_path / "bin", moto.client) as aws,
        folder_unmounted_after(tmp_path / "data") as point,
    ):
        aws.after["AttachVolume"] = lambda call: machine.plug(call["VolumeId"], disk)
        yield Launched(machine, aws, ec2, disk, point)


def test_a_blank_volume_is_made_formatted_mounted_and_given_away(launched: Launched) -> None:
    done = launched.boot()
    assert done.returncode == 0, done.stdout + done.stderr
    (volume,) = launched.volumes()
    assert (volume["Size"], volume["AvailabilityZone"]) == (1, ZONE)
    assert source_of(launched.point).startswith(f"{launched.disk} rw,")
    assert launched.point.stat().st_uid == 1000
    assert ",nofail," in launched.machine.fstab.read_text()
    log = launched.machine.root / "var/log/imagenet-etl-producer.log"
    assert log.read_text() == done.stdout


def test_a_second_boot_changes_nothing(launched: Launched) -> None:
    launched.boot()
    (launched.point / "file").write_text("of a run")
    os.chown(launched.point, 2000, 2000)
    fstab, calls = launched.machine.fstab.read_text(), len(launched.aws.calls)
    done = launched.boot()
    assert done.returncode == 0, done.stdout
    assert "mounted already" in done.stdout
    assert (launched.point / "file").read_text() == "of a run"
    assert launched.point.stat().st_uid == 2000
    assert launched.machine.fstab.read_text() == fstab
    assert {name.split(":")[1] for name in launched.aws.names[calls:]} == {"DescribeVolumes"}


def test_a_boot_after_a_crash_gives_it_away(launched: Launched) -> None:
    launched.boot()
    os.chown(launched.point, 0, 0)
    assert launched.boot().returncode == 0
    assert launched.point.stat().st_uid == 1000


def test_a_volume_that_was_deleted_is_made_anew(launched: Launched) -> None:
    launched.boot()
    (volume,) = (item["VolumeId"] for item in launched.volumes())
    instance_id = launched.machine.metadata["instance-id"]
    launched.ec2.detach_volume(VolumeId=volume, InstanceId=instance_id)
    launched.ec2.delete_volume(VolumeId=volume)
    launched.aws.grow_old()
    done = launched.boot()
    assert done.returncode == 0, done.stdout
    (again,) = (item["VolumeId"] for item in launched.volumes())
    assert again != volume


def test_two_producers_at_once_ask_for_one_volume(launched: Launched) -> None:
    launched.boot()
    (volume,) = launched.volumes()
    # Not to be seen yet.
    launched.ec2.delete_tags(Resources=[volume["VolumeId"]], Tags=volume["Tags"])
    launched.machine.metadata["instance-id"] = launch_instance(launched.ec2, ZONE)
    assert launched.boot().returncode == 1
    first, second = (
        call["ClientToken"] for name, call in launched.aws.calls if name == "ec2:CreateVolume"
    )
    assert first == second


def test_after_a_stop_it_is_mounted_again_and_not_formatted(launched: Launched) -> None:
    launched.boot()
    (launched.point / "file").write_text("of a run")
    subprocess.run(["umount", launched.point], check=True)
    assert launched.boot().returncode == 0
    assert (launched.point / "file").read_text() == "of a run"


@pytest.mark.parametrize("kind", ["ext4", "partition table", "raw bytes", "late signature"])
def test_a_volume_that_holds_something_is_never_formatted(launched: Launched, kind: str) -> None:
    if kind == "ext4":
        subprocess.run(["mkfs.ext4", "-q", "-F", launched.disk], check=True)
    elif kind == "partition table":
        partition_disk(launched.disk, (2048, 65536))
    else:
        with launched.disk.open("r+b") as disk:
            # btrfs keeps its name at 64 KiB.
            disk.seek(5000 if kind == "raw bytes" else 65536 + 64)
            disk.write(b"precious" if kind == "raw bytes" else b"_BHRfS_M")
    before = launched.disk.read_bytes()[: 1 << 20]
    done = launched.boot()
    if kind == "ext4":
        assert done.returncode == 0, done.stdout
        assert " ext4 " in launched.machine.fstab.read_text()
        subprocess.run(["umount", launched.point], check=True)
        blkid = subprocess.run(["blkid", "-p", launched.disk], capture_output=True, text=True)
        assert 'TYPE="ext4"' in blkid.stdout
    else:
        assert done.returncode == 1, done.stdout
        assert launched.disk.read_bytes()[: 1 << 20] == before
    assert "making a file system" not in done.stdout


def test_the_volume_of_a_stopped_instance_is_found_by_its_tag(launched: Launched) -> None:
    volume = launched.ec2.create_volume(
        AvailabilityZone=ZONE,
        Size=3,
        TagSpecifications=[
            {"ResourceType": "volume", "Tags": [{"Key": VOLUME_TAG, "Value": "imagenet-data"}]}
        ],
    )["VolumeId"]
    assert launched.boot().returncode == 0
    assert [item["VolumeId"] for item in launched.volumes()] == [volume]
    assert "ec2:CreateVolume" not in launched.aws.names


def test_a_volume_that_another_instance_uses_is_left_there(launched: Launched) -> None:
    launched.boot()
    launched.machine.metadata["instance-id"] = launch_instance(launched.ec2, ZONE)
    done = launched.boot()
    assert done.returncode == 1
    assert re.search(r"vol-\w+ is attached to i-", done.stdout)


def test_a_device_name_that_is_taken_meanwhile_is_not_the_end(launched: Launched) -> None:
    launched.aws.fails["AttachVolume"] = "InvalidParameterValue: /dev/sdf is already in use"
    done = launched.boot()
    assert done.returncode == 0, done.stdout
    (volume,) = launched.volumes()
    assert volume["Attachments"][0]["Device"] == "/dev/sdg"


@pytest.mark.parametrize("said", [LOST, ATTACHED])
def test_a_lost_reply_of_an_attachment_is_not_the_end(launched: Launched, said: str) -> None:
    launched.aws.lost["AttachVolume"] = said
    done = launched.boot()
    assert done.returncode == 0, done.stdout
    assert source_of(launched.point)
    assert launched.aws.names.count("ec2:AttachVolume") == 1


def test_an_attachment_whose_reply_was_lost_may_show_late(launched: Launched) -> None:
    looks = iter(range(3))

    def alter(reply: dict[str, Any]) -> None:
        for volume in reply["Volumes"]:
            if "ec2:AttachVolume" in launched.aws.names and next(looks, None) is not None:
                volume |= {"State": "available", "Attachments": []}

    launched.aws.altered["DescribeVolumes"] = alter
    launched.aws.lost["AttachVolume"] = ATTACHED
    done = launched.boot()
    assert done.returncode == 0, done.stdout


def test_a_volume_that_another_instance_was_quicker_to_attach_is_left_there(
    launched: Launched,
) -> None:
    other = launch_instance(launched.ec2, ZONE)

    def lose_the_race(_: dict[str, Any]) -> None:
        (volume,) = (item["VolumeId"] for item in launched.volumes())
        launched.ec2.attach_volume(VolumeId=volume, InstanceId=other, Device="/dev/sdf")

    launched.aws.after["DescribeInstances"] = lose_the_race
    launched.aws.fails["AttachVolume"] = ATTACHED
    done = launched.boot()
    assert done.returncode == 1
    assert "already attached to an instance" in done.stdout


def test_a_data_volume_in_an_error_is_left_for_a_look(launched: Launched) -> None:
    launched.aws.altered["DescribeVolumes"] = volumes_in_error
    done = launched.boot()
    assert done.returncode == 1
    assert "ended in an error" in done.stdout
    assert len(launched.volumes()) == 1


def test_an_attachment_that_is_denied_ends_it(launched: Launched) -> None:
    launched.aws.fails["AttachVolume"] = "UnauthorizedOperation: no"
    done = launched.boot()
    assert done.returncode == 1
    assert "UnauthorizedOperation" in done.stdout


def test_another_region_is_refused_before_any_call(launched: Launched) -> None:
    launched.options["region"] = "eu-central-1"
    done = launched.boot()
    assert (done.returncode, launched.aws.calls) == (1, [])
    assert "made for eu-central-1" in done.stdout


def test_it_runs_again_at_every_boot_of_this_instance_alone(launched: Launched) -> None:
    launched.boot()
    (copy,) = (launched.machine.root / "var/lib/cloud/scripts/per-boot").iterdir()
    env = launched.machine.environment(launched.aws.folder)
    again = subprocess.run([copy], env=env, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout
    assert copy.exists()
    # An image of this instance, launched: the script is there, but it is another's.
    launched.machine.metadata["instance-id"] = launch_instance(launched.ec2, ZONE)
    calls = len(launched.aws.calls)
    other = subprocess.run([copy], env=env, capture_output=True, text=True)
    assert (other.returncode, len(launched.aws.calls)) == (0, calls)
    assert not copy.exists()


def installed_runner(launched: Launched) -> tuple[Path, dict[str, str]]:
    """Boot with the command that stops the instance; returns it and its environment."""
    launched.options["stop_when_done"] = True
    launched.boot()
    runner = launched.machine.root / "usr/local/bin/imagenet-etl-run"
    return runner, launched.machine.environment(launched.aws.folder)


def test_the_instance_stops_after_the_run_however_it_ended(launched: Launched) -> None:
    runner, env = installed_runner(launched)
    keep = launched.machine.root / "run/imagenet-etl-keep"
    keep.touch()
    done = subprocess.run([runner, "bash", "-c", "exit 7"], env=env, capture_output=True, text=True)
    assert done.returncode == 7
    assert "ec2:StopInstances" not in launched.aws.names
    keep.unlink()
    launched.aws.fails["StopInstances"] = "RequestLimitExceeded"
    assert subprocess.run([runner, "true"], env=env, capture_output=True).returncode == 0
    assert launched.aws.names.count("ec2:StopInstances") == 2
    name, call = launched.aws.calls[-1]
    assert name == "ec2:StopInstances"
    assert call["InstanceIds"] == [launched.machine.metadata["instance-id"]]
    assert subprocess.run([runner], env=env, capture_output=True).returncode == 2


def test_a_machine_of_its_image_stops_itself_alone(launched: Launched) -> None:
    runner, env = installed_runner(launched)
    env |= {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}  # not for the metadata
    other = launch_instance(launched.ec2, ZONE)
    launched.machine.metadata["instance-id"] = other
    assert subprocess.run([runner, "true"], env=env, capture_output=True).returncode == 0
    stops = [call for name, call in launched.aws.calls if name == "ec2:StopInstances"]
    assert stops == [{"InstanceIds": [other]}]


def test_a_machine_that_cannot_tell_which_it_is_stops_none(launched: Launched) -> None:
    runner, env = installed_runner(launched)
    del launched.machine.metadata["instance-id"]
    done = subprocess.run([runner, "bash", "-c", "exit 7"], env=env, capture_output=True, text=True)
    assert done.returncode == 7
    assert "does not tell instance-id" in done.stderr
    assert "ec2:StopInstances" not in launched.aws.names


def test_who_ends_the_run_ends_the_command_and_stops_the_instance(launched: Launched) -> None:
    runner, env = installed_runner(launched)
    words = [runner, "bash", "-c", "trap 'echo told; exit 5' TERM; echo up; sleep 60 & wait"]
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        run.terminate()
        assert run.stdout.readline() == "told\n"
        assert run.wait(timeout=30) == 5
    assert launched.aws.names[-1] == "ec2:StopInstances"


def test_scratch_that_fails_leaves_the_means_to_stop(launched: Launched) -> None:
    launched.options |= {"stop_when_done": True, "stripe_scratch": "/proc/scratch"}
    assert launched.boot().returncode == 1
    assert (launched.machine.root / "usr/local/bin/imagenet-etl-run").exists()

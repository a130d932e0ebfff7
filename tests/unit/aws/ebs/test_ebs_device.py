"""What a folder lies on, told from a made-up /proc and /sys."""

import logging
from pathlib import Path

import pytest

from imagenet_etl.aws.ebs.device import (
    EBS,
    INSTANCE_STORE,
    MAPPED,
    OTHER,
    RAID,
    UNTOLD,
    check_volume,
    is_ec2,
    volume_under,
)
from imagenet_etl.errors import WrongVolume

EBS_MODEL, STORE_MODEL = "Amazon Elastic Block Store", "Amazon EC2 NVMe Instance Storage"
VOLUME, OTHER_VOLUME = "vol-0123456789abcdef0", "vol-0fedcba9876543210"
ROOT_MOUNT = "22 1 259:0 / / rw - ext4 /dev/nvme0n1p1 rw"


class Machine:
    """A folder that looks like the root of some machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.data.mkdir()
        self.lines = [ROOT_MOUNT]
        self.disk("nvme0n1", "259:9", model=EBS_MODEL, serial="vol0aaaaaaaaaaaaaaaa")
        self.partition("nvme0n1", "nvme0n1p1", "259:0")

    def disk(self, name: str, number: str, mark: str = "", **device: str) -> None:
        folder = self.root / "sys/devices" / name
        (folder / "device").mkdir(parents=True)
        for key, value in device.items():
            (folder / "device" / key).write_text(f"{value:<20}\n")
        if mark:
            (folder / mark).mkdir()
        self._link(folder, name, number)

    def partition(self, disk: str, name: str, number: str) -> None:
        folder = self.root / "sys/devices" / disk / name
        folder.mkdir()
        (folder / "partition").write_text("1\n")
        self._link(folder, name, number)

    def _link(self, folder: Path, name: str, number: str) -> None:
        for place in (f"dev/block/{number}", f"class/block/{name}"):
            link = self.root / "sys" / place
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder)

    def mount(self, number: str, source: str, kind: str = "xfs", subfolder: str = "/") -> None:
        point = str(self.data).replace(" ", "\\040")
        self.lines.append(f"40 22 {number} {subfolder} {point} rw shared:7 - {kind} {source} rw")

    def is_instance(self) -> None:
        vendor = self.root / "sys/class/dmi/id/sys_vendor"
        vendor.parent.mkdir(parents=True)
        vendor.write_text("Amazon EC2\n")

    def finish(self) -> Path:
        table = self.root / "proc/self/mountinfo"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\n".join(self.lines) + "\n")
        return self.root


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root = tmp_path / "a machine"
    root.mkdir()
    return Machine(root)


def with_ebs(machine: Machine) -> Path:
    machine.disk("nvme1n1", "259:1", model=EBS_MODEL, serial="vol0123456789abcdef0")
    machine.mount("259:1", "/dev/nvme1n1")
    return machine.finish()


def test_volume_id_is_the_serial_of_the_nvme_device(machine: Machine) -> None:
    under = volume_under(machine.data, with_ebs(machine))
    assert (under.kind, under.volume_id, under.device) == (EBS, VOLUME, "nvme1n1")
    assert (under.mount_point, under.file_system) == (str(machine.data), "xfs")
    assert not under.is_root_fs


def test_partition_leads_to_its_disk(machine: Machine) -> None:
    machine.disk("nvme1n1", "259:1", model=EBS_MODEL, serial="vol0123456789abcdef0")
    machine.partition("nvme1n1", "nvme1n1p1", "259:2")
    machine.mount("259:2", "/dev/nvme1n1p1")
    under = volume_under(machine.data, machine.finish())
    assert (under.kind, under.volume_id, under.device) == (EBS, VOLUME, "nvme1n1p1")


def test_folder_without_a_mount_of_its_own_lies_on_the_root(machine: Machine) -> None:
    under = volume_under(machine.data, machine.finish())
    assert (under.mount_point, under.is_root_fs) == ("/", True)
    assert under.volume_id == "vol-0aaaaaaaaaaaaaaaa"


def test_bind_mount_of_a_part_may_be_the_root(machine: Machine) -> None:
    machine.disk("nvme1n1", "259:1", model=EBS_MODEL, serial="vol0123456789abcdef0")
    machine.mount("259:1", "/dev/nvme1n1", subfolder="/srv/images")
    root = machine.finish()
    under = volume_under(machine.data, root)
    assert (under.is_root_fs, under.may_be_root_fs) == (False, True)
    assert under.path_on_volume(machine.data / "datasets/v1") == "srv/images/datasets/v1"
    assert check_volume(machine.data, VOLUME, root) == under


@pytest.mark.parametrize("bound", [False, True])
def test_root_volume_gets_no_snapshot(machine: Machine, bound: bool) -> None:
    if bound:
        machine.mount("259:0", "/dev/nvme0n1p1", subfolder="/srv")
    with pytest.raises(WrongVolume, match="lies on the machine's root volume"):
        check_volume(machine.data, "vol-0aaaaaaaaaaaaaaaa", machine.finish())


def test_path_on_volume_begins_at_the_mount_point(machine: Machine) -> None:
    under = volume_under(machine.data, with_ebs(machine))
    assert under.path_on_volume(machine.data / "datasets/v1") == "datasets/v1"


def test_btrfs_with_a_number_of_its_own_is_found_by_name(machine: Machine) -> None:
    machine.disk("nvme1n1", "259:1", model=EBS_MODEL, serial="vol0123456789abcdef0")
    machine.mount("0:55", "/dev/nvme1n1", kind="btrfs")
    assert volume_under(machine.data, machine.finish()).volume_id == VOLUME


def test_mount_over_another_one_hides_it(machine: Machine) -> None:
    machine.disk("nvme2n1", "259:3", model=STORE_MODEL, serial="AWS123")
    machine.mount("259:3", "/dev/nvme2n1")
    assert volume_under(machine.data, with_ebs(machine)).volume_id == VOLUME


@pytest.mark.parametrize(
    ("name", "mark", "model", "kind"),
    [
        ("md0", "md", "", RAID),
        ("dm-0", "dm", "", MAPPED),
        ("nvme3n1", "", STORE_MODEL, INSTANCE_STORE),
        ("xvdf", "", "", UNTOLD),
        ("sda", "", "QEMU HARDDISK", UNTOLD),
    ],
)
def test_kind_is_told(machine: Machine, name: str, mark: str, model: str, kind: str) -> None:
    machine.disk(name, "9:0", mark, model=model, serial="X")
    machine.mount("9:0", f"/dev/{name}")
    assert volume_under(machine.data, machine.finish()).kind == kind


@pytest.mark.parametrize("kind", ["overlay", "tmpfs", "nfs4"])
def test_no_block_device_is_told(machine: Machine, kind: str) -> None:
    machine.mount("0:44", kind, kind=kind)
    assert volume_under(machine.data, machine.finish()).kind == OTHER


def test_right_volume_passes(machine: Machine) -> None:
    assert check_volume(machine.data, VOLUME, with_ebs(machine)).volume_id == VOLUME


def test_other_volume_is_refused_by_both_names(machine: Machine) -> None:
    root = with_ebs(machine)
    with pytest.raises(WrongVolume, match=f"expected {OTHER_VOLUME}, found {VOLUME}"):
        check_volume(machine.data, OTHER_VOLUME, root)


def test_instance_store_is_sent_to_s3(machine: Machine) -> None:
    machine.disk("nvme3n1", "259:3", model=STORE_MODEL, serial="AWS123")
    machine.mount("259:3", "/dev/nvme3n1")
    with pytest.raises(WrongVolume, match=r"instance store: xfs on nvme3n1. Back up to S3"):
        check_volume(machine.data, VOLUME, machine.finish())


@pytest.mark.parametrize(("name", "mark"), [("md0", "md"), ("dm-0", "dm")])
def test_sets_of_disks_are_refused_on_an_instance(machine: Machine, name: str, mark: str) -> None:
    machine.is_instance()
    machine.disk(name, "9:0", mark)
    machine.mount("9:0", f"/dev/{name}")
    with pytest.raises(WrongVolume, match="no EBS volume"):
        check_volume(machine.data, VOLUME, machine.finish())


def test_layer_of_a_container_is_refused_on_an_instance(machine: Machine) -> None:
    machine.is_instance()
    machine.mount("0:44", "overlay", kind="overlay")
    with pytest.raises(WrongVolume, match="no block device: overlay"):
        check_volume(machine.data, VOLUME, machine.finish())


@pytest.mark.parametrize(("name", "mark"), [("dm-0", "dm"), ("sda", "")])
def test_machine_that_is_no_instance_only_warns(
    machine: Machine, caplog: pytest.LogCaptureFixture, name: str, mark: str
) -> None:
    machine.disk(name, "9:0", mark)
    machine.mount("9:0", f"/dev/{name}")
    with caplog.at_level(logging.WARNING):
        check_volume(machine.data, VOLUME, machine.finish())
    assert f"lies on {VOLUME}" in caplog.text


def test_instance_is_told_by_its_vendor_or_hypervisor(machine: Machine) -> None:
    root = machine.finish()
    assert not is_ec2(root)
    (root / "sys/hypervisor").mkdir()
    (root / "sys/hypervisor/uuid").write_text("ec2e1916-9099-7caf-fd21-012345abcdef\n")
    assert is_ec2(root)


def test_this_machine_can_be_told(tmp_path: Path) -> None:
    under = volume_under(tmp_path)
    assert tmp_path.is_relative_to(under.mount_point)
    assert under.file_system

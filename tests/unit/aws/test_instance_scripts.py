"""Mounting and unmounting, as SSM has it done, on a loop device."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.stub_instance import (
    Instance,
    folder_unmounted_after,
    loop_disk,
    partition_disk,
    run_as_file,
    source_of,
)

from imagenet_etl.aws.scripts import mount_script, unmount_script

VOLUME = "vol-0123456789abcdef0"


@pytest.fixture
def machine(tmp_path: Path) -> Instance:
    return Instance(tmp_path / "root", {})


@pytest.fixture
def disk(tmp_path: Path, machine: Instance) -> Iterator[Path]:
    with loop_disk(tmp_path / "disk.img", 64) as device:
        machine.plug(VOLUME, device)
        yield device


@pytest.fixture
def point(tmp_path: Path, disk: Path) -> Iterator[Path]:
    with folder_unmounted_after(tmp_path / "data") as folder:
        yield folder


def ext4(device: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", device], check=True)


def run(machine: Instance, script: str) -> subprocess.CompletedProcess[str]:
    return run_as_file(machine.root.parent, script, machine.environment())


def mount(
    machine: Instance, point: Path, read_only: bool = True, at_boot: bool = False
) -> subprocess.CompletedProcess[str]:
    return run(
        machine,
        mount_script(
            volume_id=VOLUME, mount_point=str(point), read_only=read_only, at_boot=at_boot
        ),
    )


def test_a_volume_is_mounted_read_only_and_again_is_success(
    machine: Instance, disk: Path, point: Path
) -> None:
    ext4(disk)
    done = mount(machine, point)
    assert done.returncode == 0, done.stderr
    assert f"{VOLUME} " in done.stdout
    assert source_of(point).startswith(f"{disk} ro,")
    again = mount(machine, point)
    assert (again.returncode, "mounted already" in again.stdout) == (0, True)
    assert len(source_of(point).splitlines()) == 1


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_renamed_just_before_a_snapshot_is_there(
    machine: Instance, tmp_path: Path, point: Path, kind: str
) -> None:
    live, copy = tmp_path / "live.img", tmp_path / "copy.img"
    source = tmp_path / "source"
    source.mkdir()
    with loop_disk(live) as device, folder_unmounted_after(source):
        subprocess.run([f"mkfs.{kind}", "-q", device], check=True)
        subprocess.run(["mount", device, source], check=True)
        version = source / "datasets/.v1"
        version.mkdir(parents=True)
        (version / "manifest.json").write_text("{}")
        version.rename(source / "datasets/v1")
        # What a snapshot holds is what reached the device, while it stays mounted.
        subprocess.run(["sync", "--file-system", source], check=True)
        subprocess.run(["cp", "--sparse=always", live, copy], check=True)
    with loop_disk(copy) as device:
        link = machine.root / "dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"
        Path(f"{link}{VOLUME.replace('-', '')}").unlink(missing_ok=True)
        machine.plug(VOLUME, device)
        with folder_unmounted_after(point):
            done = mount(machine, point)
            assert done.returncode == 0, done.stderr
            assert source_of(point).startswith(f"{device} ro,")
            assert (point / "datasets/v1/manifest.json").read_text() == "{}"


def test_read_write_when_asked(machine: Instance, disk: Path, point: Path) -> None:
    ext4(disk)
    assert mount(machine, point, read_only=False).returncode == 0
    (point / "file").touch()
    done = mount(machine, point)
    assert done.returncode == 1
    assert "not 'ro'" in done.stderr


def test_the_only_partition_is_taken(machine: Instance, disk: Path, point: Path) -> None:
    partition_disk(disk)
    partition = Path(f"{disk}p1")
    if not partition.exists():
        pytest.skip("partitions of loop devices do not show up here")
    ext4(partition)
    done = mount(machine, point)
    assert done.returncode == 0, done.stderr
    assert source_of(point).startswith(f"{partition} ro,")


def test_a_folder_with_files_is_not_mounted_over(
    machine: Instance, disk: Path, point: Path
) -> None:
    ext4(disk)
    point.mkdir()
    (point / "file").touch()
    done = mount(machine, point)
    assert done.returncode == 1
    assert "not empty" in done.stderr


def test_another_mount_in_its_place_is_refused(machine: Instance, disk: Path, point: Path) -> None:
    ext4(disk)
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "other", point], check=True)
    done = mount(machine, point)
    assert done.returncode == 1
    assert "in use: other" in done.stderr


def test_a_volume_that_is_mounted_elsewhere_is_refused(
    machine: Instance, disk: Path, point: Path
) -> None:
    ext4(disk)
    assert mount(machine, point).returncode == 0
    done = mount(machine, point.with_name("elsewhere"))
    assert done.returncode == 1
    assert f"mounted already, at {point}" in done.stderr


def test_a_blank_volume_is_told(machine: Instance, disk: Path, point: Path) -> None:
    done = mount(machine, point)
    assert done.returncode == 1
    assert "holds no file system" in done.stderr


def test_a_device_that_never_comes_ends_it(
    machine: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagenet_etl.aws.scripts.ATTACH_WAIT_S", 1)
    done = mount(machine, tmp_path / "data")
    assert done.returncode == 1
    assert f"the device of {VOLUME}" in done.stderr or "needs root" in done.stderr


def test_the_serial_number_does_where_udev_has_no_link(
    machine: Instance, disk: Path, point: Path
) -> None:
    ext4(disk)
    (machine.root / "dev/disk/by-id").rename(machine.root / "dev/disk/none")
    (machine.root / "dev/nvme1n1").symlink_to(disk)
    folder = machine.root / "sys/block/nvme1n1/device"
    folder.mkdir(parents=True)
    (folder / "serial").write_text(VOLUME.replace("-", "") + " \n")
    done = mount(machine, point)
    assert done.returncode == 0, done.stderr
    assert source_of(point).startswith(str(disk))


def test_on_xen_the_name_of_the_attachment_does(machine: Instance, disk: Path, point: Path) -> None:
    ext4(disk)
    (machine.root / "dev/disk/by-id").rename(machine.root / "dev/disk/none")
    (machine.root / "dev/xvdf").symlink_to(disk)
    script = mount_script(volume_id=VOLUME, mount_point=str(point), device="/dev/sdf")
    done = run(machine, script)
    assert done.returncode == 0, done.stderr


def test_own_nvme_disks_do_not_make_xen_nitro(machine: Instance, disk: Path, point: Path) -> None:
    model = machine.root / "sys/block/nvme0n1/device/model"
    model.parent.mkdir(parents=True)
    model.write_text("Amazon EC2 NVMe Instance Storage\n")
    test_on_xen_the_name_of_the_attachment_does(machine, disk, point)


def test_two_mounts_at_once_are_one(machine: Instance, disk: Path, point: Path) -> None:
    ext4(disk)
    script = machine.root.parent / "both"
    script.write_text(mount_script(volume_id=VOLUME, mount_point=str(point), at_boot=True))
    both = [subprocess.Popen(["sh", script], env=machine.environment()) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert len(source_of(point).splitlines()) == 1


def test_a_line_for_the_boot_is_written_once_and_dropped(
    machine: Instance, disk: Path, point: Path
) -> None:
    ext4(disk)
    before = machine.fstab.read_text()
    for _ in range(2):
        assert mount(machine, point, at_boot=True).returncode == 0
    (line,) = machine.fstab.read_text().removeprefix(before).splitlines()
    assert line.startswith(str(machine.root / "dev/disk/by-id"))
    assert f" {point} ext4 ro," in line
    assert ",nofail," in line
    done = run(machine, unmount_script(volume_id=VOLUME, mount_point=str(point)))
    assert done.returncode == 0, done.stderr
    assert machine.fstab.read_text() == before
    assert source_of(point) == ""


def test_a_line_of_someone_else_is_left_alone(machine: Instance, disk: Path, point: Path) -> None:
    ext4(disk)
    machine.fstab.write_text(f"LABEL=mine {point} ext4 defaults 0 2\n")
    done = mount(machine, point, at_boot=True)
    assert done.returncode == 1
    assert "someone else" in done.stderr
    assert machine.fstab.read_text() == f"LABEL=mine {point} ext4 defaults 0 2\n"


def test_a_table_without_a_last_newline_keeps_its_lines(
    machine: Instance, disk: Path, point: Path
) -> None:
    ext4(disk)
    machine.fstab.write_text("UUID=1234 / ext4 defaults 0 1")
    machine.fstab.chmod(0o640)
    assert mount(machine, point, at_boot=True).returncode == 0
    first, second = machine.fstab.read_text().splitlines()
    assert (first, VOLUME in second) == ("UUID=1234 / ext4 defaults 0 1", True)
    assert machine.fstab.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in machine.fstab.parent.iterdir()] == ["fstab"]


def test_unmounting_what_is_not_mounted_is_success(machine: Instance, point: Path) -> None:
    done = run(machine, unmount_script(volume_id=VOLUME, mount_point=str(point)))
    assert (done.returncode, "is not mounted" in done.stdout) == (0, True)


@pytest.mark.parametrize("attached", [True, False])
def test_what_another_deployment_has_mounted_stays(
    machine: Instance, tmp_path: Path, disk: Path, point: Path, attached: bool
) -> None:
    ext4(disk)
    assert mount(machine, point, at_boot=True).returncode == 0
    before, other = machine.fstab.read_text(), "vol-0fedcba9876543210"
    with loop_disk(tmp_path / "other.img", 64) as device:
        if attached:
            machine.plug(other, device)
        done = run(machine, unmount_script(volume_id=other, mount_point=str(point)))
    assert done.returncode == 0, done.stderr
    assert source_of(point).startswith(f"{disk} ro,")
    assert machine.fstab.read_text() == before


def test_a_volume_that_is_mounted_elsewhere_is_not_given_up(
    machine: Instance, disk: Path, point: Path
) -> None:
    ext4(disk)
    mount(machine, point)
    elsewhere = str(point.with_name("elsewhere"))
    done = run(machine, unmount_script(volume_id=VOLUME, mount_point=elsewhere))
    assert done.returncode == 1
    assert f"still mounted, at {point}" in done.stderr


def test_a_mount_that_is_in_use_stays(machine: Instance, disk: Path, point: Path) -> None:
    ext4(disk)
    mount(machine, point)
    with subprocess.Popen(["cat"], cwd=point, stdin=subprocess.PIPE):
        done = run(machine, unmount_script(volume_id=VOLUME, mount_point=str(point)))
    assert done.returncode == 1
    assert "cannot unmount" in done.stderr
    assert source_of(point)

"""``scripts/stripe-nvme`` with stand-ins for every command that looks at disks or changes them."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/stripe-nvme"
STORE = "Amazon EC2 NVMe Instance Storage"
EBS = "Amazon Elastic Block Store"

# What each prints, and how it ends, stands in a file named after it, what is asked for, and the
# disk; those that change something record their call.
STUB = """#!/usr/bin/env bash
name=$(basename "$0")
asked=
for word in "$@"; do
  [ "${before:-}" != --output ] || asked=".$word"
  before=$word
done
for answer in "$ANSWERS/$name$asked.${before##*/}" "$ANSWERS/$name$asked" "$ANSWERS/$name"; do
  [ ! -e "$answer" ] || break
done
case $name in lsblk | findmnt | findfs | wipefs | id) ;; *) echo "$name $*" >>"$CALLS" ;; esac
[ -e "$answer" ] || exit 0
head -n -1 "$answer"
exit "$(tail -n 1 "$answer")"
"""
COMMANDS = ("lsblk", "findmnt", "findfs", "wipefs", "id", "mdadm", "mkfs.xfs", "mount", "chown",
            "mkdir")  # fmt: skip


@dataclass
class Machine:
    """Disks that are not there."""

    folder: Path
    disks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("bin", "answers"):
            (self.folder / name).mkdir()
        for name in COMMANDS:
            stub = self.folder / "bin" / name
            stub.write_text(STUB)
            stub.chmod(0o755)
        self.answer("findmnt", "", 1)
        self.answer("findfs", "", 1)
        self.answer("id", "0\n")
        self.answer("lsblk.NAME,MODEL,TYPE", "")

    def answer(self, name: str, text: str, code: int = 0) -> None:
        (self.folder / "answers" / name).write_text(f"{text}{code}\n")

    def add(self, name: str, model: str = STORE, holds: str = "", inside: str = "") -> None:
        """Add a disk, blank unless a file system's name or other devices in it are given."""
        self.disks.append(f'NAME="/dev/{name}" MODEL="{model}" TYPE="disk"\n')
        self.answer("lsblk.NAME,MODEL,TYPE", "".join(self.disks))
        self.answer(f"lsblk.NAME.{name}", f"/dev/{name}\n{inside}")
        self.answer(f"wipefs.TYPE.{name}", holds)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "ANSWERS": str(self.folder / "answers"),
            "CALLS": str(self.folder / "calls"),
            "SUDO_UID": "1000",
            "SUDO_GID": "1001",
        }
        return subprocess.run([SCRIPT, *words], env=env, capture_output=True, text=True)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "scratch")


def striped(target: str) -> list[str]:
    return [
        "mdadm --create /dev/md/imagenet-etl --level=0 --chunk=256 --raid-devices=2 "
        "/dev/nvme1n1 /dev/nvme2n1",
        "mkfs.xfs -K -L imagenet-etl /dev/md/imagenet-etl",
        f"mkdir -p {target}",
        f"mount -o noatime /dev/md/imagenet-etl {target}",
        f"chown 1000:1001 {target}",
    ]


def test_a_dry_run_tells_every_command_and_runs_none(machine: Machine, target: str) -> None:
    machine.add("nvme1n1")
    machine.add("nvme2n1")
    done = machine.run(target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == striped(target)
    assert machine.calls == []
    assert "--yes" in done.stderr


def test_two_disks_are_striped(machine: Machine, target: str) -> None:
    machine.add("nvme1n1")
    machine.add("nvme2n1")
    done = machine.run(target, "--yes")
    assert done.returncode == 0, done.stderr
    assert machine.calls == striped(target)


def test_one_disk_needs_no_raid(machine: Machine, target: str) -> None:
    machine.add("nvme1n1")
    machine.run(target, "--yes")
    assert machine.calls[0] == "mkfs.xfs -K -L imagenet-etl /dev/nvme1n1"
    assert not any(call.startswith("mdadm") for call in machine.calls)


def test_volumes_of_ebs_are_never_touched(machine: Machine, target: str) -> None:
    machine.add("nvme0n1", EBS)
    machine.add("nvme1n1")
    machine.run(target, "--yes")
    assert not any("nvme0n1" in call for call in machine.calls)


def test_without_instance_storage_it_refuses(machine: Machine, target: str) -> None:
    machine.add("nvme0n1", EBS)
    done = machine.run(target, "--yes")
    assert done.returncode == 1
    assert STORE in done.stderr
    assert machine.calls == []


@pytest.mark.parametrize(
    "content",
    [
        {"inside": "/dev/nvme2n1p1\n"},
        {"holds": "ext4\n"},
        {"inside": "/dev/md0\n", "holds": "xfs\n"},
    ],
    ids=["partition", "file system", "raid"],
)
def test_a_disk_that_holds_something_is_left_alone(
    machine: Machine, target: str, content: dict[str, str]
) -> None:
    machine.add("nvme1n1")
    machine.add("nvme2n1", **content)
    done = machine.run(target, "--yes")
    assert done.returncode == 0, done.stderr
    assert "/dev/nvme2n1 is left alone" in done.stderr
    assert not any("nvme2n1" in call for call in machine.calls)


def test_a_disk_that_udev_knows_a_file_system_of_is_left_alone(
    machine: Machine, target: str
) -> None:
    machine.add("nvme1n1")
    machine.answer("lsblk.FSTYPE,PTTYPE,MOUNTPOINT.nvme1n1", "xfs  /data\n")
    done = machine.run(target)
    assert done.returncode == 1
    assert "no instance-store disk is blank" in done.stderr


def test_a_disk_that_cannot_be_read_ends_it(machine: Machine, target: str) -> None:
    machine.add("nvme1n1")
    machine.add("nvme2n1")
    machine.answer("wipefs.TYPE.nvme2n1", "", 1)
    done = machine.run(target, "--yes")
    assert done.returncode == 1
    assert "cannot read /dev/nvme2n1" in done.stderr
    assert machine.calls == []


def test_mounted_already_nothing_is_done(machine: Machine, target: str) -> None:
    machine.add("nvme1n1")
    machine.answer("findmnt", "/dev/md127 xfs\n")
    done = machine.run(target, "--yes")
    assert (done.returncode, machine.calls) == (0, [])
    assert "nothing to do" in done.stdout


def test_another_mount_in_its_place_is_refused(machine: Machine, target: str) -> None:
    machine.answer("findmnt", "/dev/nvme0n1p1 ext4\n")
    done = machine.run(target, "--yes")
    assert (done.returncode, machine.calls) == (1, [])


def test_after_a_reboot_it_is_mounted_again_and_not_made_again(
    machine: Machine, target: str
) -> None:
    machine.answer("findfs", "/dev/md127\n")
    done = machine.run(target, "--yes")
    assert done.returncode == 0, done.stderr
    assert machine.calls == [
        f"mkdir -p {target}",
        f"mount -o noatime /dev/md127 {target}",
        f"chown 1000:1001 {target}",
    ]


def test_a_folder_with_files_is_not_mounted_over(machine: Machine, tmp_path: Path) -> None:
    machine.add("nvme1n1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    done = machine.run(str(tmp_path / "full"), "--yes")
    assert (done.returncode, machine.calls) == (1, [])
    assert "not empty" in done.stderr


def test_a_failing_command_ends_it(machine: Machine, target: str) -> None:
    machine.add("nvme1n1")
    machine.answer("mkfs.xfs", "", 1)
    done = machine.run(target, "--yes")
    assert done.returncode == 1
    assert [call.split()[0] for call in machine.calls] == ["mkfs.xfs"]


def test_doing_it_needs_root_but_looking_does_not(machine: Machine, target: str) -> None:
    machine.add("nvme1n1")
    machine.answer("id", "1000\n")
    assert machine.run(target).returncode == 0
    done = machine.run(target, "--yes")
    assert (done.returncode, machine.calls) == (1, [])
    assert "root" in done.stderr


@pytest.mark.parametrize("words", [(), ("/a", "--no"), ("/a", "--yes", "/b")])
def test_wrong_words_are_told_the_usage(machine: Machine, words: tuple[str, ...]) -> None:
    done = machine.run(*words)
    assert done.returncode == 2
    assert "usage" in done.stderr


@pytest.mark.parametrize("place", ["scratch", "/"])
def test_the_mount_point_is_an_absolute_path(machine: Machine, place: str) -> None:
    done = machine.run(place, "--yes")
    assert (done.returncode, machine.calls) == (1, [])


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

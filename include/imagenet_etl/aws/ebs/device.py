"""What a folder really lies on: which EBS volume, or something that no snapshot would hold.

Everything is read from ``/proc/self/mountinfo`` and ``/sys``, so it needs neither root nor a call.
Sources: proc_pid_mountinfo(5); Amazon EBS User Guide, "Amazon EBS and NVMe" (model "Amazon Elastic
Block Store", the volume id without its dash as serial) and Amazon EC2 User Guide, "SSD instance
store volumes" (model "Amazon EC2 NVMe Instance Storage").
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imagenet_etl.aws.ebs.mounts import Mount, mount_of
from imagenet_etl.errors import WrongVolume

log = logging.getLogger(__name__)

EBS, INSTANCE_STORE, RAID, MAPPED = "ebs", "instance store", "RAID", "device mapper"
OTHER, UNTOLD = "no block device", "unknown"

_EBS_MODEL, _STORE_MODEL = "Amazon Elastic Block Store", "Amazon EC2 NVMe Instance Storage"
_ON_EC2_ONLY = (RAID, MAPPED, OTHER)
_S3_INSTEAD = "Back up to S3 instead: set an S3 URI and no volume id"


@dataclass(frozen=True)
class Underlying:
    """What a folder lies on.

    Attributes:
        kind: ``EBS``, ``INSTANCE_STORE``, ``RAID`` (md), ``MAPPED`` (LVM, LUKS), ``OTHER``
            (overlay, tmpfs, NFS), or ``UNTOLD`` for a disk that does not say what it is.
        volume_id: Of an EBS volume; else empty.
        mount_point: Where its file system is mounted.
        is_root_fs: Whether that is the root file system.
        file_system: Its type, such as ``xfs``.
        device: The device's name, such as ``nvme1n1p1``.
        subfolder: What of the file system is mounted there; ``/`` for all of it.
    """

    kind: str
    volume_id: str
    mount_point: str
    is_root_fs: bool
    file_system: str
    device: str
    subfolder: str = "/"

    @property
    def may_be_root_fs(self) -> bool:
        """A bind mount shows a part of some file system, which may be the host's root."""
        return self.is_root_fs or self.subfolder != "/"

    def path_on_volume(self, path: Path) -> str:
        """Return a folder's path relative to the root of the file system.

        Args:
            path: A folder below the mount point.
        """
        below = path.resolve().relative_to(self.mount_point)
        return str(PurePosixPath(self.subfolder.strip("/"), below))


def volume_under(path: Path, root: Path = Path("/")) -> Underlying:
    """Return what a folder lies on.

    Args:
        path: The folder.
        root: Where ``proc`` and ``sys`` are looked for.
    """
    mounts, mount = mount_of(path, root)
    disk = _disk_of(mount, root)
    kind, volume_id = (OTHER, "") if disk is None else _kind_of(disk)
    system = next((item for item in reversed(mounts) if item.point == "/"), mount)
    return Underlying(
        kind=kind,
        volume_id=volume_id,
        mount_point=mount.point,
        is_root_fs=mount.point == "/" or mount.number == system.number,
        file_system=mount.kind,
        device=disk.name if disk is not None else mount.source,
        subfolder=mount.subfolder,
    )


def is_ec2(root: Path = Path("/")) -> bool:
    """Return whether this machine says that it is an EC2 instance.

    Source: Amazon EC2 User Guide, "Detect whether a host is an EC2 instance".
    """
    vendor = _text(root / "sys/class/dmi/id/sys_vendor")
    return vendor == "Amazon EC2" or _text(root / "sys/hypervisor/uuid").lower().startswith("ec2")


def check_volume(path: Path, volume_id: str, root: Path = Path("/")) -> Underlying:
    """Return what a folder lies on, unless it is known not to be this volume.

    On a machine that is no EC2 instance nothing can be known: the snapshot is then the user's
    word, and a warning says so.

    Args:
        path: The folder whose content the snapshot has to hold.
        volume_id: The volume that is to be snapshotted.
        root: Where ``proc`` and ``sys`` are looked for.

    Raises:
        WrongVolume: It lies on another volume, on what no EBS snapshot holds, or on the root
            volume, whose keys and secrets a snapshot would hold, too.
    """
    under = volume_under(path, root)
    if under.kind == EBS and under.volume_id != volume_id:
        raise WrongVolume(
            f"{path} does not lie on volume {volume_id}",
            expected=volume_id,
            found=f"{under.volume_id} ({under.device} on {under.mount_point})",
            remedy=f"Set the volume id to {under.volume_id}, or the data folder to one on "
            f"{volume_id}",
        )
    if under.kind == EBS and under.is_root_fs:
        raise WrongVolume(
            f"{path} lies on the machine's root volume",
            expected="a volume that holds nothing but data",
            found=f"{volume_id} with keys, secrets and logs, which whoever gets its snapshot reads",
            remedy=f"Keep the data folder on a volume of its own. {_S3_INSTEAD}",
        )
    if under.kind == EBS and under.may_be_root_fs:
        log.warning(
            "%s is %s of a volume that may hold other things: its snapshot will hold them, too",
            under.mount_point,
            under.subfolder,
        )
    if under.kind == INSTANCE_STORE or (under.kind in _ON_EC2_ONLY and is_ec2(root)):
        raise WrongVolume(
            f"{path} lies on no EBS volume that a snapshot could hold",
            expected=volume_id,
            found=f"{under.kind}: {under.file_system} on {under.device}",
            remedy=_S3_INSTEAD,
        )
    if under.kind != EBS:
        log.warning(
            "cannot tell whether %s lies on %s: %s is %s", path, volume_id, under.device, under.kind
        )
    return under


def _disk_of(mount: Mount, root: Path) -> Path | None:
    """Return the folder below ``/sys`` of the block device of a mount; None without one."""
    by_number = root / "sys/dev/block" / mount.number
    # Btrfs mounts bear a number of their own.
    by_name = root / "sys/class/block" / PurePosixPath(mount.source).name
    if by_number.exists():
        return by_number.resolve()
    if mount.source.startswith("/dev/") and by_name.exists():
        return by_name.resolve()
    return None


def _kind_of(device: Path) -> tuple[str, str]:
    """Return the kind of a block device and its volume id."""
    disk = device.parent if (device / "partition").exists() else device
    if (disk / "md").exists():
        return RAID, ""
    if (disk / "dm").exists():
        return MAPPED, ""
    model, serial = _text(disk / "device/model"), _text(disk / "device/serial")
    if model == _STORE_MODEL:
        return INSTANCE_STORE, ""
    if model == _EBS_MODEL and serial.startswith("vol"):
        return EBS, f"vol-{serial.removeprefix('vol').removeprefix('-')}"
    return UNTOLD, ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # not there, or not for us: then it tells nothing
        return ""

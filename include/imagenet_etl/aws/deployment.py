"""What a deployment is: a published version for an instance.

It is named by the version, the instance and the mount point. Its volume bears that name as a tag,
so whoever comes again finds it, whatever was lost meanwhile. Needs no boto3, so that a form can
read the bounds from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from imagenet_etl.aws.ebs.tags import DEPLOYMENT, DatasetTags
from imagenet_etl.aws.ebs.volume_request import VolumeRequest
from imagenet_etl.aws.scripts import checked_account, checked_folder
from imagenet_etl.errors import ConfigError

VERIFY = ("fast", "full", "none")
DEFAULT_MOUNT = "/data"
_LONGEST_MOUNT = 64


@dataclass(frozen=True)
class Wanted:
    """What a deployment's form asks for.

    Attributes:
        dataset: The dataset's name.
        version: A published version; empty for the newest snapshot's.
        shared_by: The account, of twelve digits, that shares the snapshot; empty for our own.
        availability_zone: Where the volumes are made; empty for the instance's own zone.
        mount_point: Absolute path on the instance.
        read_only: Whether the volume is mounted read-only.
        verify: One of ``VERIFY``. ``full`` reads every byte, which also loads the volume.
        volume_type: EBS volume type.
        iops: I/O operations a second; 0 for the type's own.
        throughput_mib_s: MiB a second; 0 for the type's own.
        initialization_mib_s: Rate at which EBS loads the snapshot; 0 for as it is read.
        delete_on_termination: Whether the volume ends with the instance.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    dataset: str
    version: str = ""
    shared_by: str = ""
    availability_zone: str = ""
    mount_point: str = DEFAULT_MOUNT
    read_only: bool = True
    verify: str = VERIFY[0]
    volume_type: str = "gp3"
    iops: int = 0
    throughput_mib_s: int = 0
    initialization_mib_s: int = 0
    delete_on_termination: bool = True

    def __post_init__(self) -> None:
        checked_account(self.shared_by)
        mount = self.mount_point
        if checked_folder("mount point", mount) != mount or len(mount) > _LONGEST_MOUNT:
            raise ConfigError(
                f"the mount point {mount!r}",
                expected=f"at most {_LONGEST_MOUNT} characters, the last one no slash",
            )
        if self.verify not in VERIFY:
            raise ConfigError(f"verify {self.verify!r}", expected=" or ".join(VERIFY))


@dataclass(frozen=True)
class Deployment:
    """One version for one instance; of plain values, so that it crosses from task to task.

    Attributes:
        region: Where instance, snapshot and volume are.
        instance_id: The instance.
        availability_zone: The instance's zone; a volume of another one cannot be attached.
        snapshot_id: What the volume is made from.
        manifest_sha256: SHA-256 of the version's ``manifest.json``, in hex.
        path: The version's folder, relative to the root of the volume.
        dataset, version, mount_point, read_only, verify: As in ``Wanted``.
        volume_type, iops, throughput_mib_s, initialization_mib_s: As in ``Wanted``.
        delete_on_termination: As in ``Wanted``.
    """

    region: str
    instance_id: str
    availability_zone: str
    snapshot_id: str
    dataset: str
    version: str
    manifest_sha256: str
    path: str
    mount_point: str
    read_only: bool
    verify: str
    volume_type: str
    iops: int
    throughput_mib_s: int
    initialization_mib_s: int
    delete_on_termination: bool

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Deployment:
        """Rebuild what ``to_dict`` gave."""
        return Deployment(**{item.name: values[item.name] for item in fields(Deployment)})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @property
    def name(self) -> str:
        """What its volume is found by: at most 256 characters, the bound of a tag's value."""
        return f"{self.dataset}/{self.version}@{self.instance_id}:{self.mount_point}"

    @property
    def folder(self) -> str:
        """The version's folder on the instance."""
        return str(PurePosixPath(self.mount_point) / self.path)

    def volume_request(self) -> VolumeRequest:
        """Return the volume it wants."""
        told = DatasetTags(self.dataset, self.version, self.manifest_sha256, self.path).to_dict()
        return VolumeRequest(
            availability_zone=self.availability_zone,
            snapshot_id=self.snapshot_id,
            volume_type=self.volume_type,
            iops=self.iops,
            throughput_mib_s=self.throughput_mib_s,
            initialization_mib_s=self.initialization_mib_s,
            tags=told | {DEPLOYMENT: self.name},
        )

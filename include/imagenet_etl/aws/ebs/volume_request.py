"""What a new volume shall be, checked before EC2 is asked.

EC2 takes some wrong requests and fails them later without a word. Sources: Amazon EC2 API
Reference, CreateVolume (ranges of each type); Amazon EBS User Guide, "Amazon EBS volume types"
(IOPS a GiB; a gp3 volume's throughput is at most 0.25 MiB/s for each of its IOPS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imagenet_etl.errors import ConfigError


@dataclass(frozen=True)
class _Type:
    """Inclusive bounds of one volume type; without ``iops`` it takes none."""

    size_gib: tuple[int, int]
    iops: tuple[int, int] = (0, 0)
    iops_a_gib: int = 0


TYPES = {
    "gp3": _Type((1, 65_536), (3_000, 80_000), 500),
    "gp2": _Type((1, 16_384)),
    "io1": _Type((4, 16_384), (100, 64_000), 50),
    "io2": _Type((4, 65_536), (100, 256_000), 1_000),
    "st1": _Type((125, 16_384)),
    "sc1": _Type((125, 16_384)),
}
"""The volume types that hold data today."""

_GP3_IOPS = 3_000
_THROUGHPUT = (125, 2_000)
_MIB_S_AN_IOPS = 0.25
_INITIALIZATION = (100, 300)
_MAX_TAGS = 46  # of 50, since some are ours


@dataclass(frozen=True)
class VolumeRequest:
    """A volume to make, empty or from a snapshot.

    Attributes:
        availability_zone: Where; an instance can only attach volumes of its own zone.
        snapshot_id: What it holds; empty for a blank one.
        size_gib: Its size in GiB; 0 for that of the snapshot.
        volume_type: One of ``TYPES``.
        iops: Provisioned IOPS; 0 for the type's default, which io1 and io2 do not have.
        throughput_mib_s: Provisioned MiB a second of a gp3 volume; 0 for 125.
        initialization_mib_s: MiB a second at which the snapshot's blocks are fetched, for a fee; 0
            fetches each when it is first read.
        kms_key: Key that encrypts it; empty for the snapshot's, or the account's default.
        tags: Its tags.

    Raises:
        ConfigError: A value is out of its bounds, or does not go with another.
    """

    availability_zone: str
    snapshot_id: str = ""
    size_gib: int = 0
    volume_type: str = "gp3"
    iops: int = 0
    throughput_mib_s: int = 0
    initialization_mib_s: int = 0
    kms_key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        zone = self.availability_zone
        _require(bool(zone), "availability_zone", repr(zone), "a zone such as us-east-1a")
        _require(self.volume_type in TYPES, "volume_type", self.volume_type, " or ".join(TYPES))
        source = bool(self.snapshot_id) or self.size_gib > 0
        _require(source, "size_gib", self.size_gib, "a size, or a snapshot")
        if self.size_gib:
            _within("size_gib", self.size_gib, TYPES[self.volume_type].size_gib)
        self._check_iops()
        self._check_throughput()
        if self.initialization_mib_s:
            found = f"{self.initialization_mib_s} without a snapshot"
            _require(bool(self.snapshot_id), "initialization_mib_s", found, "a snapshot to fetch")
            _within("initialization_mib_s", self.initialization_mib_s, _INITIALIZATION)
        _require(len(self.tags) <= _MAX_TAGS, "tags", len(self.tags), f"at most {_MAX_TAGS}")

    def _check_iops(self) -> None:
        kind, name = TYPES[self.volume_type], self.volume_type
        if not kind.iops[1]:
            _require(not self.iops, "iops", self.iops, f"none, since {name} takes none")
            return
        if not self.iops:
            _require(name == "gp3", "iops", 0, f"a number, which {name} needs")
            return
        _within("iops", self.iops, kind.iops)
        most = max(kind.iops[0], self.size_gib * kind.iops_a_gib)
        ok = not self.size_gib or self.iops <= most
        _require(ok, "iops", self.iops, f"at most {most} with {self.size_gib} GiB")

    def _check_throughput(self) -> None:
        asked = self.throughput_mib_s
        if not asked:
            return
        _require(self.volume_type == "gp3", "throughput_mib_s", asked, "none but for gp3")
        _within("throughput_mib_s", asked, _THROUGHPUT)
        iops = self.iops or _GP3_IOPS
        most = int(iops * _MIB_S_AN_IOPS)
        _require(asked <= most, "throughput_mib_s", asked, f"at most {most} with {iops} IOPS")

    def parameters(self) -> dict[str, object]:
        """Return the parameters of CreateVolume, without tags and token."""
        given = {
            "SnapshotId": self.snapshot_id,
            "Size": self.size_gib,
            "Iops": self.iops,
            "Throughput": self.throughput_mib_s,
            "VolumeInitializationRate": self.initialization_mib_s,
            "KmsKeyId": self.kms_key,
            "Encrypted": bool(self.kms_key),
        }
        given = {name: value for name, value in given.items() if value}
        place = {"AvailabilityZone": self.availability_zone, "VolumeType": self.volume_type}
        return place | given


def _within(name: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    _require(low <= value <= high, name, value, f"{low:,} to {high:,}")


def _require(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise ConfigError(f"{name} of a volume", expected=expected, found=value)

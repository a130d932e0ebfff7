"""User data: one bash script for cloud-init that gives an instance its volume at launch.

A producer gets the volume that datasets are built on, a consumer a dataset from its newest
snapshot. The instance needs the AWS CLI v2, curl and util-linux, a producer xfsprogs (and mdadm for
a stripe), a consumer that verifies Python 3.7; its role is the only credential. What the scripts
call is in ``policies/``. All calls are repeatable: the script runs again at every boot and finds
what it made. Sources: cloud-init documentation, "User data scripts" and "Scripts per boot"; Amazon
EC2 User Guide, "Run commands when you launch an EC2 instance with user data input".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagenet_etl.aws.ebs import tags
from imagenet_etl.aws.ebs.volume_request import TYPES, VolumeRequest
from imagenet_etl.aws.scripts import bash_text, checked, checked_account, checked_folder
from imagenet_etl.errors import ConfigError

MAX_BYTES = 16 * 1024
"""Of user data, before it is encoded. Source: Amazon EC2 User Guide, user data quotas."""

VERIFY = ("none", "fast", "full")
VOLUME_TYPES = tuple(name for name in TYPES if not name.startswith("io"))
"""Those that need no number of IOPS, which these scripts do not give."""

VOLUME_TAG = f"{tags.PREFIX}:volume"
"""Names a producer's data volume."""

_REGION = r"([a-z]{2,4}(-[a-z]+)+-\d)?"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_OWNER = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_-]{0,31})?"


@dataclass(frozen=True)
class Producer:
    """What a producer's instance gets.

    Attributes:
        mount_point: Where the data volume is mounted.
        size_gib: Size of the volume when it has to be made.
        name: Value of the tag ``VOLUME_TAG`` by which the volume is found, one a zone.
        owner: User, or user:group, that a new file system is given to.
        volume_type: Of a new volume.
        region: The region it is made for; empty for the instance's own.
        stripe_scratch: Where the instance's own NVMe disks are mounted as scratch; empty for no.
        stop_when_done: Whether the command ``imagenet-etl-run`` is installed.
    """

    mount_point: str
    size_gib: int
    name: str = "imagenet-data"
    owner: str = "root"
    volume_type: str = "gp3"
    region: str = ""
    stripe_scratch: str = ""
    stop_when_done: bool = False

    def script(self) -> str:
        """Return the script.

        Raises:
            ConfigError: A value is malformed.
        """
        volume_type = _one_of("volume type", self.volume_type, VOLUME_TYPES)
        VolumeRequest("any", size_gib=self.size_gib, volume_type=volume_type)
        values = {
            "role": "producer",
            "expected_region": checked("region", self.region, _REGION),
            "tag": VOLUME_TAG,
            "name": checked("volume's name", self.name, _NAME),
            "size_gib": str(self.size_gib),
            "volume_type": volume_type,
            "mount_point": checked_folder("mount point", self.mount_point),
            "owner": checked("owner", self.owner, _OWNER),
            "scratch": self.stripe_scratch
            and checked_folder("scratch folder", self.stripe_scratch),
            "stop_when_done": "yes" if self.stop_when_done else "no",
        }
        parts = ["say", "device", "fstab", "mount", "instance", "volume", "blank"]
        if self.stripe_scratch:
            parts.append("stripe")
            values["doit"] = "yes"
        return _user_data(values, *parts, "producer")


@dataclass(frozen=True)
class Consumer:
    """What a consumer's instance gets.

    Attributes:
        dataset: ``NAME`` or ``NAME@VERSION``.
        mount_point: Where the volume is mounted, read-only.
        shared_by: The account, of twelve digits, that shares the snapshot; empty for our own.
        region: The region it is made for; empty for the instance's own.
        verify: ``none``, ``fast`` (names and sizes) or ``full`` (every byte, which loads the
            volume).
        volume_type: Of the volume.
    """

    dataset: str
    mount_point: str
    shared_by: str = ""
    region: str = ""
    verify: str = "fast"
    volume_type: str = "gp3"

    def script(self) -> str:
        """Return the script.

        Raises:
            ConfigError: A value is malformed.
        """
        name, at, version = self.dataset.partition("@")
        values = {
            "role": "consumer",
            "expected_region": checked("region", self.region, _REGION),
            "prefix": tags.PREFIX,
            "dataset": checked("dataset", name, _NAME),
            "version": checked("version", version, _NAME) if at else "",
            "shared_by": checked_account(self.shared_by),
            "volume_type": _one_of("volume type", self.volume_type, VOLUME_TYPES),
            "mount_point": checked_folder("mount point", self.mount_point),
            "verify": _one_of("verification", self.verify, VERIFY),
        }
        parts = ["say", "device", "fstab", "mount", "instance", "volume"]
        parts += ["@verify"] if self.verify != "none" else []
        return _user_data(values, *parts, "consumer")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    return checked(name, value, "|".join(choices))


def _user_data(values: dict[str, str], *parts: str) -> str:
    text = "#!/bin/bash\n" + bash_text(values, *parts, call="logged_main")
    # Every byte counts here; comments and docstrings stand in the parts.
    text = re.sub(r"(?m)^ *#(?!!/).*\n", "", text)
    text = re.sub(r'(?ms)^ *""".*?"""\n', "", text)
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError("the user data", expected=f"at most {MAX_BYTES} bytes", found=len(text))
    return text

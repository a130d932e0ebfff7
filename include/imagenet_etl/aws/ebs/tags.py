"""The tags by which snapshots and volumes are found again.

EC2 takes no idempotency token for CreateSnapshot and CopySnapshot: whoever repeats a call whose
reply was lost looks for these tags first. An account that a snapshot is shared with sees none of
its tags, but its description, which tells the same. Sources: Amazon EC2 API Reference,
CreateSnapshot; Amazon EBS User Guide, "Share an Amazon EBS snapshot".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "imagenet-etl"
DATASET, VERSION, MANIFEST, PATH = (
    f"{PREFIX}:{name}" for name in ("dataset", "version", "manifest", "path")
)
COPY_OF = f"{PREFIX}:copy-of"
COPY_KEY = f"{PREFIX}:copy-key"
"""The KMS key, as it was asked for, that encrypts a copy; ``default`` for the account's own."""

DEPLOYMENT = f"{PREFIX}:deployment"
TOKEN = f"{PREFIX}:token"
"""What tells a volume from all others that were asked for."""

UNUSABLE = f"{PREFIX}:unusable"
"""Why a snapshot must not be used, such as a freeze that ended too early."""

_TOLD = re.compile(rf"{PREFIX} ([^/ ]+)/([^/ ]+) manifest:([0-9a-f]{{64}}) path:(.+)")
_LONGEST_DESCRIPTION = 255


@dataclass(frozen=True)
class DatasetTags:
    """What the tags of a snapshot tell.

    Attributes:
        dataset: The dataset's name.
        version: The published version.
        manifest_sha256: SHA-256 of its ``manifest.json``, in hex.
        path: The version's folder, relative to the root of the volume.
    """

    dataset: str
    version: str
    manifest_sha256: str
    path: str

    def to_dict(self) -> dict[str, str]:
        """Return the tags, a name for the console among them."""
        return {
            "Name": f"{PREFIX} {self.dataset}/{self.version}",
            DATASET: self.dataset,
            VERSION: self.version,
            MANIFEST: self.manifest_sha256,
            PATH: self.path,
        }

    def description(self) -> str:
        """Return a snapshot's description, which tells the same where it fits: in ASCII."""
        name = f"{PREFIX} {self.dataset}/{self.version}"
        told = f"{name} manifest:{self.manifest_sha256} path:{self.path}"
        fits = told.isascii() and len(told) <= _LONGEST_DESCRIPTION and _TOLD.fullmatch(told)
        return told if fits else name

    @staticmethod
    def of(resource: Mapping[str, object]) -> DatasetTags:
        """Read the tags of a described snapshot or volume; missing ones are empty."""
        tags = tags_of(resource)
        return DatasetTags(*(tags.get(name, "") for name in (DATASET, VERSION, MANIFEST, PATH)))

    @staticmethod
    def told_by(snapshot: Mapping[str, object]) -> DatasetTags | None:
        """Read the description of a described snapshot; None when it tells nothing."""
        told = _TOLD.fullmatch(str(snapshot.get("Description", "")))
        return DatasetTags(*told.groups()) if told else None


def tags_of(resource: Mapping[str, object]) -> dict[str, str]:
    """Return the tags of a described resource by name."""
    items = resource.get("Tags") or ()
    return {item["Key"]: item["Value"] for item in items}  # type: ignore[attr-defined]


def tag_specification(kind: str, tags: Mapping[str, str]) -> list[dict[str, object]]:
    """Return ``TagSpecifications`` of a call that creates a ``snapshot`` or a ``volume``."""
    return [{"ResourceType": kind, "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]


def tag_filters(tags: Mapping[str, str]) -> list[dict[str, object]]:
    """Return the ``Filters`` of a Describe call that finds resources with all of these tags."""
    return [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]

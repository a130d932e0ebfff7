"""The tags by which snapshots and volumes are found again.

EC2 takes no idempotency token for CreateSnapshot and CopySnapshot: whoever repeats a call whose
reply was lost looks for these tags first. Source: Amazon EC2 API Reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "imagenet-etl"
DATASET, VERSION, MANIFEST, PATH = (
    f"{PREFIX}:{name}" for name in ("dataset", "version", "manifest", "path")
)
COPY_OF = f"{PREFIX}:copy-of"
COPY_KEY = f"{PREFIX}:copy-key"
"""The KMS key, as it was asked for, that encrypts a copy."""

DEPLOYMENT = f"{PREFIX}:deployment"
TOKEN = f"{PREFIX}:token"
"""What tells a volume from all others that were asked for."""

UNUSABLE = f"{PREFIX}:unusable"
"""Why a snapshot must not be used, such as a freeze that ended too early."""


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

    @staticmethod
    def of(resource: Mapping[str, object]) -> DatasetTags:
        """Read the tags of a described snapshot or volume; missing ones are empty."""
        tags = tags_of(resource)
        return DatasetTags(*(tags.get(name, "") for name in (DATASET, VERSION, MANIFEST, PATH)))


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

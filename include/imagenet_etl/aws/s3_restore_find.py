"""What a backup's URI leads to: which dataset, which version, which archives."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_catalog import read_catalog
from imagenet_etl.aws.s3_layout import MARK, BackupPlace
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.errors import BackupIncomplete, ConfigError
from imagenet_etl.manifest import MANIFEST


@dataclass(frozen=True)
class Target:
    """What is to be restored.

    Attributes:
        s3_uri: The backup's own URI, below which the datasets are.
        dataset: The dataset's name; empty when nothing told it.
        version: The version's name; empty for the newest.
    """

    s3_uri: str
    dataset: str = ""
    version: str = ""


def parse_target(uri: str, datasets: Collection[str], dataset: str, version: str) -> Target:
    """Split ``s3://bucket/prefix[/dataset[/version]]``.

    Args:
        uri: The URI.
        datasets: The names that a dataset may have.
        dataset: The name that was given beside it; empty for none.
        version: The version that was given beside it; empty for none.

    Raises:
        ConfigError: It is no S3 URI, or what it names is not what is given beside it.
    """
    bucket, prefix = parse_s3_uri(uri)
    parts = prefix.split("/") if prefix else []
    named, of = "", ""
    # What is given beside the URI may be a name that its prefix has, too.
    for depth in (1, 2):
        name = parts[-depth] if len(parts) >= depth else ""
        if name and name in ({dataset} if dataset else datasets):
            named, of = name, parts[-1] if depth == 2 else ""
            parts = parts[:-depth]
            break
    if of and version and of != version:
        raise ConfigError(f"{uri} names version {of}, and --version is {version}")
    below = "/".join(parts)
    root = f"s3://{bucket}/{below}" if below else f"s3://{bucket}"
    return Target(root, named or dataset, version or of)


def datasets_below(client: Any, s3_uri: str, datasets: Collection[str]) -> list[str]:
    """Return the datasets that have anything below a backup's URI.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    bucket, prefix = parse_s3_uri(s3_uri)
    below = f"{prefix}/" if prefix else ""
    return sorted(set(_folders(client, bucket, below)) & set(datasets))


def newest_version(client: Any, place: BackupPlace, dataset: str) -> str:
    """Return the latest version: by the catalog, else the one whose manifest is the newest.

    Raises:
        BackupIncomplete: There is none.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    catalog = read_catalog(client, place, dataset)
    held = {name: entry for name, entry in catalog.versions.items() if entry.get("s3_uri")}
    for name in catalog.newest_first:
        if name in held and not held[name].get("removing"):
            return name
    written = {}
    for name in _folders(client, place.bucket, f"{place.root}/"):
        key = f"{place.version(name)}/{MANIFEST}"
        with typed_aws_errors("ListObjectsV2", f"s3://{place.bucket}"):
            found = client.list_objects_v2(Bucket=place.bucket, Prefix=key, MaxKeys=1)
        for item in found.get("Contents", ()):
            if item["Key"] == key:
                written[name] = item["LastModified"]
    if not written:
        raise BackupIncomplete(
            f"{place.uri(place.root)} holds no complete version",
            expected=f"{MANIFEST} below a version's name",
            found="none",
            remedy="Check the URI and the dataset's name",
        )
    return max(sorted(written), key=lambda name: written[name])


def archives_held(client: Any, place: BackupPlace) -> list[str]:
    """Return the names of the archives that have a commit mark.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    prefix, names = place.archives, set()
    pages = client.get_paginator("list_objects_v2")
    with typed_aws_errors("ListObjectsV2", f"s3://{place.bucket}"):
        for page in pages.paginate(Bucket=place.bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                if item["Key"].endswith(MARK):
                    names.add(item["Key"][len(prefix) :].partition("/")[0])
    return sorted(names)


def _folders(client: Any, bucket: str, below: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2")
    found = []
    with typed_aws_errors("ListObjectsV2", f"s3://{bucket}"):
        for page in pages.paginate(Bucket=bucket, Prefix=below, Delimiter="/"):
            found += [item["Prefix"] for item in page.get("CommonPrefixes", ())]
    return [name[len(below) :].rstrip("/") for name in found]

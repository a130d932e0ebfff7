"""``catalog.json``: the catalog in the bucket, which two publishers may write at once.

A write names the ETag that was read, or demands that there be none; whoever comes second is refused
by S3, reads again and adds to what the first one wrote.
Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.datastore.catalog import Catalog, parse_catalog
from imagenet_etl.errors import CloudUnavailable

_MISSING = ("404", "NoSuchKey")
# 404 answers If-Match when the key was removed meanwhile.
_OUTRUN = (*_MISSING, "412", "PreconditionFailed", "409", "ConditionalRequestConflict")
_TRIES = 24
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


def read_catalog(client: Any, place: BackupPlace, dataset: str) -> Catalog:
    """Return what the bucket knows of a dataset; nothing gives an empty catalog.

    Raises:
        DatasetDamaged, SchemaTooNew: It cannot be read.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    return _read(client, place, dataset)[0]


def update_catalog(
    client: Any, place: BackupPlace, dataset: str, change: Callable[[Catalog], Catalog]
) -> Catalog:
    """Change the catalog, however many others do at the same time.

    Args:
        client: A boto3 S3 client.
        place: The dataset's part of the backup.
        dataset: Its name.
        change: Makes the new catalog of the present one. It may be called several times, and
            changes nothing in what it has changed before: so a reply that was lost is no matter.

    Returns:
        The new catalog.

    Raises:
        CloudUnavailable: Others wrote it before us time after time, or S3 fails.
        DatasetDamaged, SchemaTooNew: It cannot be read.
        CloudError: S3 refuses.
    """
    uri = place.uri(place.catalog)
    for attempt in range(_TRIES):
        known, etag = _read(client, place, dataset)
        wanted = change(known)
        if wanted == known:
            return known
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            with typed_aws_errors("PutObject", uri, passing=_OUTRUN):
                client.put_object(
                    Bucket=place.bucket,
                    Key=place.catalog,
                    Body=wanted.to_json(),
                    ContentType="application/json",
                    **condition,
                )
            return wanted
        except ClientError:
            # At random, so that those who met do not meet again.
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, _PAUSE_S * 2**attempt)))
    raise CloudUnavailable(
        f"{uri} is being written by others all the time", remedy="Run again"
    )  # fmt: skip


def catalogs_below(client: Any, s3_uri: str) -> Iterator[Catalog]:
    """Yield the catalog of every dataset that is backed up below a URI, by name.

    Raises:
        ConfigError: It is no S3 URI.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    bucket, prefix = parse_s3_uri(s3_uri)
    below = f"{prefix}/" if prefix else ""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=below, Delimiter="/"
    )
    with typed_aws_errors("ListObjectsV2", f"s3://{bucket}"):
        folders = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
    for folder in sorted(folders):
        dataset = folder[len(below) :].rstrip("/")
        catalog = read_catalog(client, backup_place(s3_uri, dataset), dataset)
        if catalog.versions:
            yield catalog


def _read(client: Any, place: BackupPlace, dataset: str) -> tuple[Catalog, str]:
    """Return the catalog and its ETag, which is empty when there is none."""
    uri = place.uri(place.catalog)
    try:
        with typed_aws_errors("GetObject", uri, passing=_MISSING):
            reply = client.get_object(Bucket=place.bucket, Key=place.catalog)
            data: bytes = reply["Body"].read()
    except ClientError:
        return Catalog(dataset), ""
    return parse_catalog(data, uri, dataset), reply["ETag"]

"""``catalog.json``: the catalog in the bucket, which two publishers may write at once.

A write names the ETag that was read, or demands that there be none; whoever comes second is refused
by S3, reads again and adds to what the first one wrote.
Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".
"""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_codes import CONFLICT, MISSING, TAKEN
from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.datastore.catalog import Catalog, Entry, parse_catalog
from imagenet_etl.errors import CloudUnavailable

# 404 answers If-Match when the key was removed meanwhile.
_OUTRUN = MISSING | TAKEN | CONFLICT
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
    client: Any,
    place: BackupPlace,
    dataset: str,
    change: Callable[[Catalog], Catalog],
    options: Mapping[str, str] | None = None,
) -> Catalog:
    """Change the catalog, however many others do at the same time.

    Args:
        client: A boto3 S3 client.
        place: The dataset's part of the backup.
        dataset: Its name.
        change: Makes the new catalog of the present one. It may be called several times, and
            changes nothing in what it has changed before: so a reply that was lost is no matter.
        options: Further fields of the request, as ``encryption_options`` gives them. Without a key
            the one that the catalog has is kept.

    Returns:
        The new catalog.

    Raises:
        CloudUnavailable: Others wrote it before us time after time, or S3 fails.
        DatasetDamaged, SchemaTooNew: It cannot be read.
        CloudError: S3 refuses.
    """
    uri = place.uri(place.catalog)
    for attempt in range(_TRIES):
        known, etag, key = _read(client, place, dataset)
        wanted = change(known)
        if wanted == known:
            return known
        body = wanted.to_json()
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            with typed_aws_errors("PutObject", uri, passing=_OUTRUN):
                client.put_object(
                    Bucket=place.bucket,
                    Key=place.catalog,
                    Body=body,
                    ContentType="application/json",
                    ChecksumSHA256=base64.b64encode(hashlib.sha256(body).digest()).decode(),
                    **(key | dict(options or {}) | condition),
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


def check_not_removing(
    client: Any, place: BackupPlace, version: str, was: Entry | None = None
) -> Entry | None:
    """Refuse to back up a version while prune removes it, perhaps on another machine.

    To be called before anything is listed, and again right before the commit mark and right after
    it: what was listed in between may have been removed by then.

    Args:
        client: A boto3 S3 client.
        place: The dataset's part of the backup.
        version: The version.
        was: What the first call returned, for the others.

    Returns:
        The version's entry in the bucket's catalog; None when it has none.

    Raises:
        CloudUnavailable: It is being removed, or was since ``was``.
        DatasetDamaged, SchemaTooNew: The catalog cannot be read.
        CloudError: S3 refuses.
    """
    dataset = place.root.rpartition("/")[2]
    entry = read_catalog(client, place, dataset).versions.get(version)
    if was is not None and entry is None:
        raise CloudUnavailable(
            f"{place.uri(place.version(version))} was removed meanwhile",
            remedy="Run again: it is sent anew",
        )
    if entry is not None:
        check_entry_stays(place.uri(place.version(version)), entry)
    return entry


def check_entry_stays(uri: str, entry: Entry) -> None:
    """Refuse to use an entry of the bucket that is being removed.

    Raises:
        CloudUnavailable: It is.
    """
    if entry.get("removing"):
        raise CloudUnavailable(
            f"{uri} is being removed by prune",
            remedy="Run again when it is gone; if that prune died, run prune --delete to finish it",
        )


def _read(client: Any, place: BackupPlace, dataset: str) -> tuple[Catalog, str, dict[str, str]]:
    """Return the catalog, its ETag, which is empty when there is none, and its KMS key."""
    uri = place.uri(place.catalog)
    try:
        with typed_aws_errors("GetObject", uri, passing=MISSING):
            reply = client.get_object(Bucket=place.bucket, Key=place.catalog)
            data: bytes = reply["Body"].read()
    except ClientError:
        return Catalog(dataset), "", {}
    names = ("ServerSideEncryption", "SSEKMSKeyId") if "SSEKMSKeyId" in reply else ()
    key = {name: reply[name] for name in names}
    return parse_catalog(data, uri, dataset), reply["ETag"], key

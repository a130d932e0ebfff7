"""Backups that never got their commit mark, found by listing; they are only told."""

from __future__ import annotations

import time
from collections.abc import Iterator

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.datastore.copies import backup_digest, objects_of
from imagenet_etl.datastore.listing import size_in_words
from imagenet_etl.datastore.store import Datastore

_MAY_BE_AT_WORK_S = 86_400.0
_NO_VERSION = "archives"


def leftovers(store: Datastore, known: set[str]) -> Iterator[str]:
    """Yield a line for each folder of the bucket that is no version and that nobody writes to.

    What was written within a day may be a backup under way on any machine, and is passed over.

    Args:
        store: The dataset's part of the datastore.
        known: The versions that are entered; those are told of elsewhere.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    if not store.s3_uri:
        return
    place, client = backup_place(store.s3_uri, store.dataset), store.client("s3")
    below = f"{place.root}/"
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=place.bucket, Prefix=below, Delimiter="/"
    )
    with typed_aws_errors("ListObjectsV2", f"s3://{place.bucket}"):
        folders = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
    for version in sorted(folder[len(below) :].rstrip("/") for folder in folders):
        if version in known or version == _NO_VERSION or backup_digest(store, place, version):
            continue
        count, size, last = 0, 0, 0.0
        for item in objects_of(client, place, version):
            count, size = count + 1, size + item["Size"]
            last = max(last, item["LastModified"].timestamp())
        if time.time() - last > _MAY_BE_AT_WORK_S:
            yield (
                f"{place.uri(place.version(version))} has no manifest.json, since its backup never "
                f"ended: {count:,} objects, {size_in_words(size)}. Back the version up again, or "
                "remove it by hand"
            )

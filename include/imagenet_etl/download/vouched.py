"""What vouches for an object's digest, so that its terabyte need not be read for it.

Proof is a SHA-256 over the whole object that S3 itself took when it was stored, and the commit mark
of a backup: that is written only after S3 had checked the object against what was read for the
mark's digest. The mark counts while the object has the mark's size and still bears its digest as
metadata, which whoever replaces the object does not bring along. The metadata alone is a claim,
which anybody may have written, and an ETag or the checksum of an upload in parts tells nothing of
the content's SHA-256.
Source: Amazon S3 User Guide, "Checking object integrity" (full object and composite checksums).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import re
from typing import Any

from imagenet_etl.aws.s3_bucket import Bucket, Stored
from imagenet_etl.aws.s3_layout import BackupPlace
from imagenet_etl.aws.s3_marks import read_mark
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.errors import AccessDenied, BackupIncomplete, SchemaTooNew
from imagenet_etl.storage import Stat

log = logging.getLogger(__name__)

_BACKED_UP = re.compile(r"(?P<root>.+)/archives/(?P<name>[^/]+)/[0-9a-f]{16}/(?P=name)")


def vouched_digests(client: Any, uri: str, stat: Stat) -> dict[str, str]:
    """Return the digests of an object that are proven without reading it, by algorithm.

    Args:
        client: A boto3 S3 client.
        uri: The object's.
        stat: Its size and ETag as they must still be.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    bucket, key = parse_s3_uri(uri)
    stored = Bucket(client, bucket).head(key)
    if stored is None or (stored.size, stored.etag) != (stat.size, stat.tag):
        return {}
    by_mark = _marked(client, bucket, key, stored)
    return by_mark or _taken_by_s3(stored)


def _taken_by_s3(stored: Stored) -> dict[str, str]:
    try:
        digest = base64.b64decode(stored.checksums.get("ChecksumSHA256", ""), validate=True)
    except binascii.Error:
        return {}  # with a number of parts behind it: that of an older upload in parts
    return {"sha256": digest.hex()} if len(digest) == hashlib.sha256().digest_size else {}


def _marked(client: Any, bucket: str, key: str, stored: Stored) -> dict[str, str]:
    """Return what the commit mark of a backup says, if this is its object and unchanged."""
    match = _BACKED_UP.fullmatch(key)
    if match is None or not stored.digest:
        return {}
    place, name = BackupPlace(bucket, match["root"]), match["name"]
    if place.archive(name, stored.digest) != key:
        return {}
    try:
        mark = read_mark(client, place, name, stored.digest)
    except (AccessDenied, BackupIncomplete, SchemaTooNew) as error:
        log.warning("%s is read to be verified: %s", place.uri(key), error)
        return {}
    return dict(mark.digests) if mark is not None and mark.size == stored.size else {}

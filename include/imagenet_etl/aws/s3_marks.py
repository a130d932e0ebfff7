"""The commit mark of an archive in the bucket: ``<digest>.backup.json``, written last.

An archive without its mark is not backed up, whatever lies under its key. Each content that an
archive has had keeps its own object and mark: another one replaces neither.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_codes import MISSING, TAKEN
from imagenet_etl.aws.s3_layout import MARK, BackupPlace
from imagenet_etl.errors import BackupIncomplete
from imagenet_etl.files import check_schema, pretty_json

log = logging.getLogger(__name__)

MARK_SCHEMA = 1


@dataclass(frozen=True)
class ArchiveMark:
    """What is known of a backed up archive.

    Attributes:
        name: Its name among the dataset's archives.
        size: Bytes.
        digests: Hex digests by algorithm: ``sha256`` always, ``md5`` where it was taken.
        kind: What it was found to be, such as ``zip`` or ``tar``.
        source: The masked URL or the path it once came from.
    """

    name: str
    size: int
    digests: dict[str, str]
    kind: str
    source: str

    @property
    def sha256(self) -> str:
        """The digest that the object bears as metadata, too."""
        return self.digests["sha256"]

    def to_json(self, key: str) -> bytes:
        """Encode for ``parse_mark``; ``key`` is that of the archive."""
        return pretty_json({"schema_version": MARK_SCHEMA} | asdict(self) | {"key": key})


def parse_mark(data: bytes, uri: str) -> ArchiveMark:
    """Decode a mark; ``uri`` is used in errors.

    Raises:
        SchemaTooNew: A newer version of this project wrote it.
        BackupIncomplete: It is damaged.
    """
    try:
        fields = json.loads(data)
        check_schema(uri, fields.pop("schema_version"), MARK_SCHEMA)
        fields.pop("key")
        mark = ArchiveMark(**fields)
        if len(bytes.fromhex(mark.sha256)) != hashlib.sha256().digest_size or mark.size < 0:
            raise ValueError("its size or its digest is none")
        return mark
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupIncomplete(
            f"{uri} is no commit mark of an archive",
            found=f"{type(error).__name__}: {error}",
            remedy="Back the archive up again; that writes its mark anew",
        ) from error


def write_mark(
    client: Any, place: BackupPlace, mark: ArchiveMark, extra: Mapping[str, Any] | None = None
) -> None:
    """Write the mark of an archive whose object is there; a mark that is there stays.

    Only a damaged one is replaced.

    Args:
        client: A boto3 S3 client.
        place: The dataset's part of the backup.
        mark: What to write.
        extra: Further fields of the request, such as a KMS key.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    body = mark.to_json(place.archive(mark.name, mark.sha256))
    digest = hashlib.sha256(body)
    request: dict[str, Any] = {
        "Bucket": place.bucket,
        "Key": place.archive_mark(mark.name, mark.sha256),
        "Body": body,
        "ContentType": "application/json",
        "Metadata": {"sha256": digest.hexdigest()},
        "ChecksumSHA256": base64.b64encode(digest.digest()).decode(),
    } | dict(extra or {})
    uri = f"s3://{place.bucket}"
    try:
        with typed_aws_errors("PutObject", uri, passing=TAKEN):
            client.put_object(**request, IfNoneMatch="*")
        return
    except ClientError:
        with suppress(BackupIncomplete):
            if read_mark(client, place, mark.name, mark.sha256) is not None:
                return
    with typed_aws_errors("PutObject", uri):
        client.put_object(**request)


def read_mark(client: Any, place: BackupPlace, name: str, sha256: str) -> ArchiveMark | None:
    """Return the mark of an archive with this content, or None when the bucket has none.

    Raises:
        SchemaTooNew: A newer version of this project wrote it.
        BackupIncomplete: It is damaged.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    mark = _read(client, place, place.archive_mark(name, sha256), name)
    if mark is not None and mark.sha256 != sha256:
        raise _not_its_mark(place.uri(place.archive_mark(name, sha256)), sha256, mark.sha256)
    return mark


def read_marks(client: Any, place: BackupPlace, name: str) -> list[ArchiveMark]:
    """Return the marks of all contents that an archive has had, the newest first.

    Damaged marks are left out with a warning.

    Raises:
        SchemaTooNew: A newer version of this project wrote one.
        BackupIncomplete: There are marks, and all of them are damaged.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    marks: list[ArchiveMark] = []
    damaged: BackupIncomplete | None = None
    for key in _keys_of_marks(client, place, name):
        try:
            mark = _read(client, place, key, name)
            if mark is not None and key != place.archive_mark(name, mark.sha256):
                raise _not_its_mark(place.uri(key), key, mark.sha256)
        except BackupIncomplete as error:
            log.warning("%s", error)
            damaged = error
            continue
        marks += [mark] if mark is not None else []
    if damaged is not None and not marks:
        raise damaged
    return marks


def _keys_of_marks(client: Any, place: BackupPlace, name: str) -> list[str]:
    """List the keys of an archive's marks, the newest first."""
    found = []
    pages = client.get_paginator("list_objects_v2")
    with typed_aws_errors("ListObjectsV2", f"s3://{place.bucket}"):
        for page in pages.paginate(Bucket=place.bucket, Prefix=place.archive_marks(name)):
            for item in page.get("Contents", ()):
                if item["Key"].endswith(MARK):
                    found.append((item["LastModified"], item["Key"]))
    return [key for _, key in sorted(found, reverse=True)]


def _read(client: Any, place: BackupPlace, key: str, name: str) -> ArchiveMark | None:
    try:
        with typed_aws_errors("GetObject", f"s3://{place.bucket}", passing=MISSING):
            data = client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
    except ClientError:
        return None
    mark = parse_mark(data, place.uri(key))
    if mark.name != name:
        raise _not_its_mark(place.uri(key), name, mark.name)
    return mark


def _not_its_mark(uri: str, expected: str, found: str) -> BackupIncomplete:
    return BackupIncomplete(
        f"{uri} is the mark of another archive",
        expected=expected,
        found=found,
        remedy="Back the archive up again; that writes its mark anew",
    )

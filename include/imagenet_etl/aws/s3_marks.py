"""The commit mark of an archive in the bucket: ``<name>.backup.json``, written last.

An archive without its mark is not backed up, whatever lies under its key.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_layout import BackupPlace
from imagenet_etl.errors import BackupIncomplete
from imagenet_etl.files import check_schema, pretty_json

MARK_SCHEMA = 1
_MISSING = ("404", "NoSuchKey", "NotFound")


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
    """Write the mark of an archive whose object is there, in place of an older mark.

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
    with typed_aws_errors("PutObject", f"s3://{place.bucket}"):
        client.put_object(
            Bucket=place.bucket,
            Key=place.archive_mark(mark.name),
            Body=body,
            ContentType="application/json",
            Metadata={"sha256": digest.hexdigest()},
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
            **(extra or {}),
        )


def read_mark(client: Any, place: BackupPlace, name: str) -> ArchiveMark | None:
    """Return the mark of an archive, or None when the bucket has none.

    Raises:
        SchemaTooNew: A newer version of this project wrote it.
        BackupIncomplete: It is damaged.
        CloudError, CloudUnavailable: S3 refuses or fails.
    """
    key = place.archive_mark(name)
    try:
        with typed_aws_errors("GetObject", f"s3://{place.bucket}", passing=_MISSING):
            data = client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
    except ClientError:
        return None
    mark = parse_mark(data, place.uri(key))
    if mark.name != name:
        raise BackupIncomplete(
            f"{place.uri(key)} is the mark of another archive",
            expected=name,
            found=mark.name,
            remedy="Back the archive up again; that writes its mark anew",
        )
    return mark

"""Upload one file to S3, create-only and checked by S3 itself.

s3transfer's managed upload cannot pass ``If-None-Match``, so the calls are made here.
Source: Amazon S3 API reference, PutObject, CompleteMultipartUpload; limits of 10,000 parts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import KeyExists

MULTIPART_ABOVE = 64 << 20
_MAX_PARTS = 10_000
TAKEN = ("412", "PreconditionFailed", "409", "ConditionalRequestConflict")


def upload_new(client: Any, bucket: str, key: str, path: Path, sha256: str) -> None:
    """Upload a file under a key that must be free; memory stays below one part.

    Args:
        client: A boto3 S3 client.
        bucket: The bucket.
        key: The object's key.
        path: The file.
        sha256: Its hex digest, kept as metadata; S3 checks a single PUT against it.

    Raises:
        KeyExists: The key is taken; nothing was changed.
        CloudError, CloudUnavailable: S3 refuses or fails; no upload is left behind.
    """
    target = {"Bucket": bucket, "Key": key}
    thing = f"s3://{bucket}"
    try:
        with typed_aws_errors("PutObject", thing, passing=TAKEN):
            if path.stat().st_size > MULTIPART_ABOVE:
                _upload_parts(client, target, path, sha256)
                return
            with path.open("rb") as body:
                client.put_object(
                    **target,
                    Body=body,
                    ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                    Metadata={"sha256": sha256},
                    IfNoneMatch="*",
                )
    except ClientError as error:
        raise KeyExists(f"{thing}/{key} exists already") from error


def _upload_parts(client: Any, target: dict[str, str], path: Path, sha256: str) -> None:
    upload = client.create_multipart_upload(**target, Metadata={"sha256": sha256})["UploadId"]
    try:
        parts = []
        for number, part in enumerate(_parts(path), 1):
            reply = client.upload_part(**target, UploadId=upload, PartNumber=number, Body=part)
            checksums = {k: v for k, v in reply.items() if k.startswith("Checksum")}
            parts.append({"PartNumber": number, "ETag": reply["ETag"]} | checksums)
        client.complete_multipart_upload(
            **target, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
        )
    except BaseException:
        client.abort_multipart_upload(**target, UploadId=upload)
        raise


def _parts(path: Path) -> Iterator[bytes]:
    part_bytes = max(MULTIPART_ABOVE, -(-path.stat().st_size // _MAX_PARTS))
    with path.open("rb") as file:
        while part := file.read(part_bytes):
            yield part

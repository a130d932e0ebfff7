"""One object that is made of parts: sent in any order, looked at again after a crash.

S3 checks each part against its CRC32. The object appears under its key when all parts are there.
Source: Amazon S3 User Guide, "Checking object integrity" and "Multipart upload limits".
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.aws.s3_bucket import Bucket
from imagenet_etl.aws.s3_codes import MISSING, NO_UPLOAD
from imagenet_etl.aws.s3_unfinished import abort, parts_of
from imagenet_etl.download.bucket_copy import Copy
from imagenet_etl.errors import CloudUnavailable, KeyExists
from imagenet_etl.storage import Stat

BORN_OF = "imagenet-etl-relay"
"""Metadata: a random word that tells an object of ours from whatever else bears its key."""

_LOST = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall", *NO_UPLOAD)


class PartsLost(CloudUnavailable):
    """S3 does not have the parts that it was sent; to begin anew is all that helps."""


class StagedObject:
    """An object on its way to a bucket, through a boto3 client made by the caller.

    Attributes:
        upload: The id of the multipart upload; empty for none.

    Args:
        client: A boto3 S3 client.
        bucket: The bucket's name.
        key: The object's key.
    """

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._bucket = Bucket(client, bucket)
        self._client = client
        self._target = {"Bucket": bucket, "Key": key}
        self._key = key
        self._sent: dict[int, dict[str, Any]] = {}
        self.upload = ""

    def begin(self, token: str) -> None:
        """Begin an upload; that of before is aborted."""
        self.drop()
        with typed_aws_errors("CreateMultipartUpload", self._bucket.uri):
            reply = self._client.create_multipart_upload(
                **self._target,
                Metadata={BORN_OF: token},
                ChecksumAlgorithm="CRC32",
                ChecksumType="FULL_OBJECT",
            )
        self.upload = reply["UploadId"]

    def go_on(self, upload: str) -> dict[int, int]:
        """Take up an upload; return the size of each part that S3 has, by its number from 1."""
        self.upload = upload
        held = parts_of(self._bucket, self._key, upload)[0]
        for number, part in held.items():
            crc = {"ChecksumCRC32": part.crc32} if part.crc32 else {}
            self._sent[number] = {"PartNumber": number, "ETag": part.etag} | crc
        return {number: part.size for number, part in held.items()}

    def send(self, upload: str, number: int, data: bytearray) -> dict[str, Any]:
        """Send one part, numbered from 1, to an upload; return what ``keep`` is to be told.

        Raises:
            PartsLost: The upload is gone.
            CloudError, CloudUnavailable: S3 refuses or fails.
        """
        crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        sent = {"PartNumber": number, "ChecksumCRC32": crc}
        try:
            uri = f"{self._bucket.uri}/{self._key}"
            with typed_aws_errors("UploadPart", uri, passing=NO_UPLOAD):
                reply = self._client.upload_part(**self._target, **sent, UploadId=upload, Body=data)
        except ClientError as error:
            raise self._lost(error) from error
        return sent | {"ETag": reply["ETag"]}

    def keep(self, part: dict[str, Any]) -> None:
        """Count a part that was sent among those of the upload."""
        self._sent[part["PartNumber"]] = part

    def complete(self, token: str) -> Stat:
        """Make the object of its parts, if that was not done already.

        Raises:
            PartsLost: S3 no longer has all of them.
            CloudError, CloudUnavailable: S3 refuses or fails.
        """
        if self.upload:
            parts = [self._sent[number] for number in sorted(self._sent)]
            try:
                with typed_aws_errors("CompleteMultipartUpload", self._bucket.uri, passing=_LOST):
                    self._client.complete_multipart_upload(
                        **self._target,
                        UploadId=self.upload,
                        MultipartUpload={"Parts": parts},
                        ChecksumType="FULL_OBJECT",
                    )
            except ClientError as error:
                # A call that is repeated after its reply was lost finds the upload gone.
                if self.stat_of(self._key, token) is None:
                    raise self._lost(error) from error
        self.upload = ""
        stat = self.stat_of(self._key, token)
        if stat is None:
            raise self._lost(None)
        return stat

    def stat_of(self, key: str, token: str) -> Stat | None:
        """Return size and ETag of an object that bears the token; None for any other and none."""
        try:
            with typed_aws_errors("HeadObject", self._bucket.uri, passing=MISSING):
                head = self._client.head_object(Bucket=self._bucket.name, Key=key)
        except ClientError:
            return None
        # S3 gives names of metadata in lower case, other servers as they like.
        metadata = {name.lower(): value for name, value in head["Metadata"].items()}
        if metadata.get(BORN_OF) != token:
            return None
        return Stat(head["ContentLength"], head["ETag"])

    def copy_to(self, key: str, stat: Stat, metadata: Mapping[str, str]) -> None:
        """Copy the object, as it was verified, to a key of the bucket that must be free.

        Args:
            key: The copy's key.
            stat: Size and ETag of the object when it was verified.
            metadata: What the copy bears, ``BORN_OF`` among it.

        Raises:
            KeyExists: The key is taken; nothing was changed.
            CloudError, CloudUnavailable: S3 refuses or fails.
        """
        try:
            Copy(self._bucket, self._key, stat, metadata).to(key)
        except KeyExists:
            # A call that is repeated after its reply was lost finds its own work.
            if self.stat_of(key, metadata[BORN_OF]) is None:
                raise

    def drop(self) -> None:
        """Abort the upload, if there is one, and forget its parts."""
        if self.upload:
            abort(self._bucket, self._key, self.upload)
        self.upload, self._sent = "", {}

    def _lost(self, error: ClientError | None) -> PartsLost:
        return PartsLost(
            f"{self._bucket.uri}/{self._key}: the upload or a part of it is gone",
            found=code_of(error) if error else "no such object",
            remedy="Run again: it is fetched anew; does a lifecycle rule abort uploads?",
        )

"""A copy inside a bucket, made by S3, under a key that must be free.

Source: Amazon S3 API Reference, CopyObject (up to 5 GB, ``If-None-Match``) and UploadPartCopy.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.aws.s3_bucket import Bucket
from imagenet_etl.aws.s3_codes import NO_UPLOAD, TAKEN
from imagenet_etl.aws.s3_spans import part_size
from imagenet_etl.aws.s3_unfinished import abort, unfinished
from imagenet_etl.errors import CloudUnavailable, KeyExists
from imagenet_etl.storage import Stat

AT_ONCE_BYTES = 5_000_000_000
PART_BYTES = 512 << 20
_CONNECTIONS = 16


@dataclass(frozen=True)
class Copy:
    """What is copied.

    Attributes:
        bucket: The bucket.
        key: Where it is.
        stat: Its size and ETag; nothing is copied once they are others.
        metadata: What the copy bears.
    """

    bucket: Bucket
    key: str
    stat: Stat
    metadata: Mapping[str, str]

    def to(self, key: str) -> None:
        """Make the copy.

        Raises:
            KeyExists: The key is taken; nothing was changed.
            CloudError, CloudUnavailable: S3 refuses or fails, or has lost the copy's parts.
        """
        uri = f"{self.bucket.uri}/{key}"
        if self.bucket.head(key) is not None:  # some servers ignore the condition
            raise KeyExists(f"{uri} exists already")
        target = {"Bucket": self.bucket.name, "Key": key}
        try:
            with typed_aws_errors("CopyObject", uri, passing=TAKEN | NO_UPLOAD):
                if self.stat.size <= AT_ONCE_BYTES:
                    self._at_once(target)
                else:
                    self._in_parts(target)
        except ClientError as error:
            # A call that is repeated after its reply was lost finds the upload gone, and the key
            # taken: the caller knows by whom.
            is_gone = code_of(error) in NO_UPLOAD
            if is_gone and self.bucket.head(key) is None:
                raise CloudUnavailable(
                    f"{uri}: the upload of its copy is gone",
                    remedy="Run again: it is copied anew; does a lifecycle rule abort uploads?",
                ) from error
            raise KeyExists(f"{uri} exists already, or its source was replaced") from error

    @property
    def _origin(self) -> dict[str, Any]:
        source = {"Bucket": self.bucket.name, "Key": self.key}
        return {"CopySource": source, "CopySourceIfMatch": self.stat.tag}

    def _at_once(self, target: Mapping[str, str]) -> None:
        self.bucket.client.copy_object(
            **target,
            **self._origin,
            MetadataDirective="REPLACE",
            ChecksumAlgorithm="SHA256",  # S3 then vouches for the digest, whoever asks
            Metadata=dict(self.metadata),
            IfNoneMatch="*",
        )

    def _in_parts(self, target: Mapping[str, str]) -> None:
        client = self.bucket.client
        for key, killed, _ in list(unfinished(self.bucket, target["Key"])):
            if key == target["Key"]:
                abort(self.bucket, key, killed)
        reply = client.create_multipart_upload(**target, Metadata=dict(self.metadata))
        upload = {**target, "UploadId": reply["UploadId"]}
        try:
            count = -(-self.stat.size // self._step)
            with ThreadPoolExecutor(_CONNECTIONS) as pool:
                parts = list(pool.map(lambda n: self._part(upload, n), range(1, count + 1)))
            client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException:
            abort(self.bucket, target["Key"], upload["UploadId"])
            raise

    @property
    def _step(self) -> int:
        return part_size(self.stat.size, PART_BYTES)

    def _part(self, upload: Mapping[str, str], number: int) -> dict[str, Any]:
        """Copy one part; return what completing the upload wants to know of it."""
        start = (number - 1) * self._step
        span = f"bytes={start}-{min(start + self._step, self.stat.size) - 1}"
        reply = self.bucket.client.upload_part_copy(
            **upload, **self._origin, PartNumber=number, CopySourceRange=span
        )
        result = reply["CopyPartResult"]
        sums = {name: value for name, value in result.items() if name.startswith("Checksum")}
        return {"PartNumber": number, "ETag": result["ETag"]} | sums

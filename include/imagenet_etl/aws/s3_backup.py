"""Stage ``back_up_to_s3``: a published version under ``s3://bucket/prefix/<dataset>/<version>/``.

Objects are create-only and carry their SHA-256 as metadata; ``manifest.json`` goes last and is the
commit mark: a backup without it is not complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_upload import upload_new
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.build import Build
from imagenet_etl.errors import BackupConflict, CloudUnavailable, KeyExists, NothingToDo
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.progress import metered
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.records.formats import LOOSE_FORMATS, loose_table
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import open_parquet

_UPLOADS_AT_ONCE = 8
_MISSING = ("404", "NoSuchKey")


@dataclass(frozen=True)
class _Target:
    """Where a version goes in the bucket."""

    client: Any
    bucket: str
    prefix: str

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def head(self, name: str) -> dict[str, Any] | None:
        try:
            with typed_aws_errors("HeadObject", f"s3://{self.bucket}", passing=_MISSING):
                head: dict[str, Any] = self.client.head_object(
                    Bucket=self.bucket, Key=self.key(name)
                )
        except ClientError:
            return None
        return head

    def sizes(self) -> dict[str, int]:
        """Return the size of every object that is there already, by name."""
        found: dict[str, int] = {}
        pages = self.client.get_paginator("list_objects_v2")
        with typed_aws_errors("ListObjectsV2", f"s3://{self.bucket}"):
            for page in pages.paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/"):
                for item in page.get("Contents", ()):
                    found[item["Key"][len(self.prefix) + 1 :]] = item["Size"]
        return found


def back_up_to_s3(place: Place) -> Result:
    """Upload what the bucket does not hold yet.

    The facts of the receipt hold ``uri``, ``manifest_etag``, ``uploaded`` and ``skipped``.

    Raises:
        NothingToDo: No S3 URI is set.
        CloudNotFound, AccessDenied, ClockSkewed: The bucket cannot be used.
        BackupConflict: A key of this version holds something else.
        CloudUnavailable: S3 fails beyond the client's retries.
    """
    build, verified = place.build, place.done["verify"]
    if not build.settings.s3_uri:
        raise NothingToDo("no S3 URI is set, so nothing is backed up")
    target = _target(build, verified)
    there = target.sizes()
    files = list(_files(build, verified))
    missing = [file for file in files if file.name not in there]
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as executor:
        present = (file for file in files if file.name in there)
        for _ in executor.map(lambda file: _check_same(target, file), present):
            pass
    with (
        metered("back_up_to_s3", sum(file.size for file in missing), "B") as meter,
        ThreadPoolExecutor(_UPLOADS_AT_ONCE) as executor,
    ):
        uploads = executor.map(lambda file: _upload(build, target, verified, file), missing)
        for file, _ in zip(missing, uploads, strict=True):
            meter.add(file.size)
    manifest = next(item for item in verified.outputs if item.name == MANIFEST)
    if MANIFEST not in there:
        _upload(build, target, verified, manifest)
    head = _check_same(target, manifest)
    return Result(
        counts={"files": len(files) + 1, "bytes": sum(file.size for file in files)},
        outputs=(),
        facts={
            "uri": f"s3://{target.bucket}/{target.prefix}",
            "manifest_etag": head["ETag"],
            "uploaded": len(missing) + (MANIFEST not in there),
            "skipped": len(there),
        },
    )


def backup_is_there(build: Build, receipt: Receipt) -> bool:
    """Return whether the commit mark is still the one that was written; reads one object's head."""
    if not build.settings.s3_uri:
        return False
    bucket, _, prefix = receipt.facts["uri"].removeprefix("s3://").partition("/")
    head = _Target(build.client("s3"), bucket, prefix).head(MANIFEST)
    return head is not None and head["ETag"] == receipt.facts["manifest_etag"]


def _target(build: Build, verified: Receipt) -> _Target:
    bucket, prefix = parse_s3_uri(build.settings.s3_uri)
    below = f"{build.facts.name}/{verified.facts['version']}"
    return _Target(build.client("s3"), bucket, f"{prefix}/{below}" if prefix else below)


def _files(build: Build, verified: Receipt) -> Iterator[Output]:
    """Yield every file of the version but the manifest."""
    for output in verified.outputs:
        if output.name != MANIFEST:
            yield output
    for loose in sorted(LOOSE_FORMATS & set(build.settings.outputs)):
        with open_parquet(build.storage, verified.key_of(loose_table(loose))) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    yield Output(f"{loose}/{row['name']}", row["size"], row["sha256"])


def _check_same(target: _Target, file: Output) -> dict[str, Any]:
    """Return the object's head if it is the file.

    Raises:
        BackupConflict: It is something else.
    """
    head = target.head(file.name)
    if head is None:
        raise CloudUnavailable(
            f"s3://{target.bucket}/{target.key(file.name)} was listed or written, but is not there",
            remedy="Run again; is something removing objects from this prefix?",
        )
    found = head["Metadata"].get("sha256", "no digest")
    if (head["ContentLength"], found) != (file.size, file.sha256):
        raise BackupConflict(
            f"s3://{target.bucket}/{target.key(file.name)} holds something else",
            expected=f"{file.size:,} bytes, sha256 {file.sha256}",
            found=f"{head['ContentLength']:,} bytes, sha256 {found}",
            remedy="Nothing was overwritten; use another prefix or version name",
        )
    return head


def _upload(build: Build, target: _Target, verified: Receipt, file: Output) -> None:
    path = build.storage.local_path(verified.key_of(file.name))
    assert path is not None
    try:
        upload_new(target.client, target.bucket, target.key(file.name), path, file.sha256)
    except KeyExists:
        _check_same(target, file)  # another run was faster; is it the same?

"""Send what a plan names: small files side by side, large ones in parts, commit marks last."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from imagenet_etl import leases
from imagenet_etl.aws.s3_bucket import Bucket, Listed, LocalFile, encryption_options
from imagenet_etl.aws.s3_marks import write_mark
from imagenet_etl.aws.s3_multipart import MultipartUpload
from imagenet_etl.aws.s3_plan import BackupPlan, in_parallel
from imagenet_etl.aws.s3_unfinished import Noted, abort_abandoned
from imagenet_etl.aws.s3_upload import Bodies, Sending, put_file
from imagenet_etl.build import Build
from imagenet_etl.errors import AlreadyRunning, CloudUnavailable, KeyExists

_LISTED_ABOVE = 1000
"""More files than a page of a listing holds are not asked about one by one."""


@dataclass
class Sent:
    """What became of a backup: objects made, their bytes, parts and uploads of earlier tries."""

    files: int = 0
    bytes: int = 0
    resumed_parts: int = 0
    aborted_uploads: int = 0


class Sender:
    """Sends the files of one plan."""

    def __init__(self, build: Build, bucket: Bucket, plan: BackupPlan, sending: Sending) -> None:
        self.sent = Sent()
        self._build, self._bucket, self._plan, self._sending = build, bucket, plan, sending
        self._bodies = Bodies(sending.mib_per_s)
        self._noted = Noted(build.storage, f"{build.work}/s3_uploads")
        self._etags: dict[str, str] = {}
        self._keys = {file.key for file in plan.send}
        self._guard = threading.Lock()

    def run(self) -> None:
        """Send everything; what was sent is remembered, however this ends.

        Raises:
            BackupConflict, CloudError: S3 refuses, or a key holds something else.
            CloudUnavailable: S3 fails beyond the client's retries; the next run goes on.
        """
        self._abort_abandoned()
        try:
            with self._alone():
                self._send_archives()
            self._send_all(self._lacking(self._plan.contents.index))
            self._send_all(self._lacking(self._plan.contents.version))
        except BaseException as error:
            self._bodies.stop(error)
            raise
        finally:
            self._plan.ledger.keep()

    def _send_archives(self) -> None:
        self._send_all(self._lacking(file for file, _ in self._plan.contents.archives))
        for mark in self._plan.marks:
            self._build.check_owner()
            options = encryption_options(self._build.settings)
            write_mark(self._bucket.client, self._plan.contents.place, mark, options)

    def _lacking(self, files: Iterable[LocalFile]) -> list[LocalFile]:
        return [file for file in files if file.key in self._keys]

    def _send_all(self, files: list[LocalFile]) -> None:
        """Send files, the commit mark among them when all others are there."""
        above = self._sending.multipart_above
        small = [f for f in files if f.size <= above and not f.is_mark]
        in_parallel(small, self._sending.connections, self._put)
        self._verify(small)
        for file in files:
            if file.size > above and not file.is_mark:
                self._send(file)
        for mark in (file for file in files if file.is_mark):
            self._build.check_owner()
            self._send(mark)

    def _put(self, file: LocalFile) -> None:
        etag = ""
        with suppress(KeyExists):  # another run was faster, or our first try, whose reply was lost
            etag = put_file(self._bucket, file, self._sending, self._bodies)
        self._etags[file.key] = etag.strip('"')
        self._count(file)

    def _verify(self, files: list[LocalFile]) -> None:
        """See that S3 has what was put: by HEAD, or very many by a listing of size and ETag.

        The ETag is that of the reply to the PUT, whose SHA-256 S3 has checked. Where the listing
        shows another, or there was no reply, a HEAD decides.
        """
        listed: dict[str, Listed] = {}
        if len(files) > _LISTED_ABOVE:
            listed = self._bucket.listing(posixpath.commonpath([file.key for file in files]))
        unsure = []
        for file in files:
            etag = self._etags.pop(file.key)
            if etag and listed.get(file.key) == (file.size, etag):
                self._plan.ledger.note(file, etag)
            else:
                unsure.append(file)
        in_parallel(unsure, self._sending.connections, self._check)

    def _check(self, file: LocalFile) -> None:
        self._plan.ledger.note(file, self._bucket.check(file).etag)

    def _send(self, file: LocalFile) -> None:
        """Send one file and look at it."""
        if file.size <= self._sending.multipart_above:
            self._put(file)
            self._verify([file])
            return
        upload = MultipartUpload(self._bucket, file, self._sending, self._bodies, self._noted)
        try:
            stored = upload.run()
        except KeyExists:
            stored = self._bucket.check(file)
        self._plan.ledger.note(file, stored.etag)
        self._count(file, upload.resumed)

    def _count(self, file: LocalFile, resumed: int = 0) -> None:
        with self._guard:
            self.sent.files += 1
            self.sent.bytes += file.size
            self.sent.resumed_parts += resumed

    def _abort_abandoned(self) -> None:
        wanted = {file.key for file in self._plan.send if file.size > self._sending.multipart_above}
        prefix = f"{self._plan.contents.place.root}/"
        self.sent.aborted_uploads = abort_abandoned(
            self._bucket, prefix, self._noted, wanted.__contains__
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lease of the dataset's archives: runs of several versions may want them.

        Raises:
            CloudUnavailable: Another run backs them up; later they will be there.
        """
        if not self._plan.contents.archives:
            yield
            return
        storage, key = self._build.storage, f"{self._build.work}/locks/backup-archives"
        try:
            lease = leases.acquire(storage, key, self._build.owner)
        except AlreadyRunning as error:
            raise CloudUnavailable(
                "another run backs the same archives up",
                found=error.found,
                remedy="Run again later: what it has sent will not be sent again",
            ) from error
        try:
            with leases.kept_alive(storage, lease):
                yield
        finally:
            lease.release()

"""Send what a plan names: small files side by side, large ones in parts, commit marks last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from imagenet_etl import leases
from imagenet_etl.aws.s3_bucket import Bucket, LocalFile, encryption_options
from imagenet_etl.aws.s3_ledger import Seen, seen
from imagenet_etl.aws.s3_marks import write_mark
from imagenet_etl.aws.s3_multipart import MultipartUpload
from imagenet_etl.aws.s3_parallel import in_parallel
from imagenet_etl.aws.s3_plan import INDEX, BackupPlan, GroupPlan, batches, in_parallel_rows
from imagenet_etl.aws.s3_sorted import LinedUp
from imagenet_etl.aws.s3_unfinished import Noted, abort_abandoned
from imagenet_etl.aws.s3_upload import Bodies, Sending, put_file
from imagenet_etl.aws.s3_whole import check_vouched
from imagenet_etl.build import Build
from imagenet_etl.download.slices import Slice
from imagenet_etl.errors import (
    AlreadyRunning,
    BackupConflict,
    CloudUnavailable,
    KeyExists,
    StillPending,
)

_LISTED_ABOVE = 1000
"""More files than a page of a listing holds are not asked about one by one."""

_LARGE_AT_ONCE = 4
"""The tail of one large file is sent beside the next ones; they share the connections."""


@dataclass
class Sent:
    """What became of a backup: objects made, their bytes, parts and uploads of earlier tries.

    Attributes:
        files: Objects made.
        bytes: Their size.
        taken: Files whose key was taken meanwhile, by the same content; perhaps by our own first
            try, whose reply was lost.
        resumed_parts: Parts that were there.
        aborted_uploads: Uploads that nobody went on with.
        marks: The archives whose mark was written.
        retries: Requests that were sent again.
    """

    files: int = 0
    bytes: int = 0
    taken: int = 0
    resumed_parts: int = 0
    aborted_uploads: int = 0
    marks: list[str] = field(default_factory=list)
    retries: int = 0


class Sender:
    """Sends the files of one plan.

    Args:
        build: The run.
        bucket: Where to.
        plan: What to send.
        sending: How.
        check_wanted: Called before a version's commit mark and after it; raises if the version is
            being removed.

    Attributes:
        sent: What became of it.
    """

    def __init__(
        self,
        build: Build,
        bucket: Bucket,
        plan: BackupPlan,
        sending: Sending,
        check_wanted: Callable[[], object],
    ) -> None:
        self.sent = Sent()
        self._check_wanted = check_wanted
        self._build, self._bucket, self._plan, self._sending = build, bucket, plan, sending
        self._bodies = Bodies(sending.mib_per_s)
        self._noted = Noted(build.storage, f"{build.work}/s3_uploads")
        self._etags: dict[str, str] = {}
        self._slice = Slice(build.slice_s)
        self._has_begun = False
        self._guard = threading.Lock()

    def run(self) -> None:
        """Send everything; what was sent is remembered, however this ends.

        Raises:
            BackupConflict, CloudError: S3 refuses, or a key holds something else.
            CloudUnavailable: S3 fails beyond the client's retries; the next run goes on.
            StillPending: The slice is over; the files that had begun are there.
        """
        self._abort_abandoned()
        for work in self._plan.groups:
            work.ledger.keep()
        try:
            for work in self._plan.groups:
                self._send_kind(work)
        except BaseException as error:
            self._bodies.stop(error)
            raise

    def _send_kind(self, work: GroupPlan) -> None:
        if work.group.name == "archives":
            with self._alone():
                self._send_group(work)
                self._write_marks()
        elif work.group.name == "index":
            try:
                self._send_group(work)
            except BackupConflict as error:
                self._plan.contents.left_out[INDEX] = str(error)
        else:
            self._send_group(work)

    def _write_marks(self) -> None:
        options = encryption_options(self._build.settings)
        for mark in self._plan.marks:
            self._build.check_owner()
            write_mark(self._bucket.client, self._plan.contents.place, mark, options)
            self.sent.marks = [*self.sent.marks, mark.name]

    def _send_group(self, work: GroupPlan) -> None:
        """Send the files of a group batch by batch, and the commit mark when all are there."""
        for files in batches(work.send()):
            rows: dict[str, Seen] = {}
            try:
                self._send_batch(files, work.group.prefix, rows)
            finally:
                work.ledger.add(list(rows.items()))
        if work.lacks_mark and work.group.mark is not None:
            self._build.check_owner()
            is_version = work.group.name == "version"
            if is_version:
                self._check_wanted()
            self._send_batch([work.group.mark], work.group.prefix, {})
            if is_version:
                check_vouched(self._bucket, work, self._check_wanted)

    def _send_batch(self, files: list[LocalFile], prefix: str, rows: dict[str, Seen]) -> None:
        """Send some files; what S3 was seen to have is added to ``rows``.

        Raises:
            StillPending: The slice ended before all had begun.
        """
        above, threads = self._sending.multipart_above, self._sending.connections
        small = [file for file in files if file.size <= above]
        large = [file for file in files if file.size > above]
        begun: list[LocalFile] = []
        in_parallel(self._in_time(small, begun), threads, self._put, self._bodies.stop)
        self._verify(begun, prefix, rows)
        if at_once := min(len(large), _LARGE_AT_ONCE, threads):
            sending = replace(self._sending, connections=threads // at_once)

            def send(file: LocalFile) -> None:
                rows[file.key] = self._upload(file, sending)

            in_parallel(self._in_time(large, begun), at_once, send, self._bodies.stop)
        if len(begun) < len(files):
            sent = f"{self.sent.files:,} files, {self.sent.bytes:,} bytes are sent"
            raise StillPending(f"the slice is over, and {sent}")

    def _in_time(self, files: Iterable[LocalFile], begun: list[LocalFile]) -> Iterator[LocalFile]:
        """Yield files, adding them to ``begun``, until the slice is over; in all one at least."""
        for file in files:
            if self._slice.is_over and self._has_begun:
                return
            self._has_begun = True
            begun.append(file)
            yield file

    def _put(self, file: LocalFile) -> None:
        try:
            etag = put_file(self._bucket, file, self._sending, self._bodies)
        except KeyExists:
            self._count_taken()
            return
        self._etags[file.key] = etag.strip('"')
        self._count(file)

    def _verify(self, files: list[LocalFile], prefix: str, rows: dict[str, Seen]) -> None:
        """See that S3 has what was put: by HEAD, or very many by a listing of size and ETag.

        The ETag is that of the reply to the PUT, whose SHA-256 S3 has checked. Where the listing
        shows another, or there was no reply, a HEAD decides.
        """
        is_listed = len(files) > _LISTED_ABOVE
        # Just before the first key: what lies between has the same beginning.
        after = files[0].key[:-1] if is_listed else ""
        there = LinedUp(self._bucket.listing(prefix, after) if is_listed else iter(()))
        unsure = []
        for file in files:
            etag = self._etags.pop(file.key, "")
            if etag and there.get(file.key) == (file.size, etag):
                key, row = seen(file, etag)
                rows[key] = row
            else:
                unsure.append(file)
        rows |= in_parallel_rows(self._bucket, unsure, self._sending.connections)

    def _upload(self, file: LocalFile, sending: Sending) -> Seen:
        """Send one large file, and return what S3 then has."""
        upload = MultipartUpload(self._bucket, file, sending, self._bodies, self._noted)
        try:
            stored = upload.run()
        except KeyExists:
            stored = self._bucket.check(file)
            self._count_taken()
        else:
            self._count(file, upload.resumed)
        return seen(file, stored.etag)[1]

    def _count(self, file: LocalFile, resumed: int = 0) -> None:
        with self._guard:
            self.sent.files += 1
            self.sent.bytes += file.size
            self.sent.resumed_parts += resumed

    def _count_taken(self) -> None:
        with self._guard:
            self.sent.taken += 1

    def _abort_abandoned(self) -> None:
        def wanted(key: str) -> bool:
            return any(file.key == key for file in self._plan.send())

        prefix = f"{self._plan.contents.place.root}/"
        self.sent.aborted_uploads += abort_abandoned(self._bucket, prefix, self._noted, wanted)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lease of the dataset's archives: runs of several versions may want them.

        Raises:
            CloudUnavailable: Another run backs them up; later they will be there.
        """
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

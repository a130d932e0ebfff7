"""What a backup would send, and what it leaves as it is, and why."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from imagenet_etl.aws.s3_bucket import Bucket, Listed, LocalFile
from imagenet_etl.aws.s3_contents import Contents, check_there, contents_of
from imagenet_etl.aws.s3_ledger import Ledger
from imagenet_etl.aws.s3_marks import ArchiveMark, read_mark
from imagenet_etl.errors import BackupIncomplete
from imagenet_etl.stage import Place

SAME = "the same is there"
SEEN = "unchanged since it was last looked at"
INDEXED = "an index of these archives is there"


@dataclass(frozen=True)
class BackupPlan:
    """The work of one backup; nothing of it is done yet.

    Attributes:
        contents: What was asked for.
        send: What the bucket lacks, in the order of the contents.
        marks: The archives whose mark the bucket lacks, or has another one of.
        skipped: Why files are not sent, with how many of them there are.
        ledger: What is known of the bucket without asking.
    """

    contents: Contents
    send: tuple[LocalFile, ...]
    marks: tuple[ArchiveMark, ...]
    skipped: dict[str, int]
    ledger: Ledger = field(repr=False)

    @property
    def files(self) -> tuple[LocalFile, ...]:
        """Every file that the backup has in the end."""
        contents = self.contents
        archives = (file for file, _ in contents.archives)
        return (*archives, *contents.index, *contents.version)

    @property
    def bytes_to_send(self) -> int:
        """How much would be sent."""
        return sum(file.size for file in self.send)

    def lines(self) -> list[str]:
        """Return the plan for people: each file that would be sent, and counts of the others."""
        place = self.contents.place
        lines = [f"send {file.size:>15,} B  {place.uri(file.key)}" for file in self.send]
        lines += [
            f"send {'a mark':>17}  {place.uri(place.archive_mark(mark.name))}"
            for mark in self.marks
        ]
        lines += [f"skip {count:,} files: {why}" for why, count in sorted(self.skipped.items())]
        lines += [f"skip {name}: {why}" for name, why in sorted(self.contents.left_out.items())]
        lines.append(f"{len(self.send):,} files to send, {self.bytes_to_send:,} bytes")
        return lines


def plan_backup(place: Place, bucket: Bucket | None = None) -> BackupPlan:
    """Compare what is asked for with what the bucket holds; nothing is written.

    A listing tells what is missing. A HEAD tells what the others hold, unless their ETag is the one
    that they had when this data folder last looked.

    Raises:
        BackupConflict: A key holds something else.
        BackupIncomplete: An archive is neither here nor there.
        CloudNotFound, AccessDenied, ClockSkewed, CloudUnavailable: The bucket cannot be read.
    """
    build, contents = place.build, contents_of(place)
    where = contents.place
    bucket = bucket or Bucket(build.client("s3"), where.bucket)
    version = where.version(place.done["verify"].facts["version"])
    ledger = Ledger(build.storage, f"{build.work}/s3_ledger", where.uri(version))
    listed = _listed(place, bucket, contents)
    skipped: Counter[str] = Counter()
    files = [file for file, _ in contents.archives]
    if contents.index and contents.index[-1].key in listed:
        skipped[INDEXED] += len(contents.index)
    else:
        files += contents.index
    files += contents.version
    send = tuple(file for file in files if file.key not in listed)
    for file in send:
        check_there(file)
    there = [file for file in files if file.key in listed]
    unsure = [file for file in there if not ledger.vouches_for(file, listed[file.key])]
    skipped[SEEN] += len(there) - len(unsure)
    in_parallel(
        unsure, build.settings.s3_connections, lambda f: ledger.note(f, bucket.check(f).etag)
    )
    skipped[SAME] += len(unsure)
    marks = tuple(mark for _, mark in contents.archives if not _is_marked(bucket, contents, mark))
    return BackupPlan(contents, send, marks, dict(+skipped), ledger)


def _listed(place: Place, bucket: Bucket, contents: Contents) -> dict[str, Listed]:
    where = contents.place
    found: dict[str, Listed] = {}
    if contents.version or not contents.archives:
        found |= bucket.listing(where.version(place.done["verify"].facts["version"]))
    if contents.archives:
        found |= bucket.listing(f"{where.root}/archives")
    return found


def _is_marked(bucket: Bucket, contents: Contents, mark: ArchiveMark) -> bool:
    try:
        there = read_mark(bucket.client, contents.place, mark.name)
    except BackupIncomplete:
        return False  # it is damaged, and written anew
    # Its source may differ: that of the first backup is the nearest to the publisher.
    return there is not None and replace(there, source=mark.source) == mark


def in_parallel(
    files: Iterable[LocalFile], threads: int, work: Callable[[LocalFile], object]
) -> None:
    """Do some work for each file in several threads, which take the next when they are ready.

    Raises:
        Exception: What the first failing call raised, once those under way have ended.
    """
    todo, turn, failed = iter(files), threading.Lock(), threading.Event()

    def run() -> None:
        while not failed.is_set():
            with turn:
                file = next(todo, None)
            if file is None:
                return
            try:
                work(file)
            except BaseException:
                failed.set()
                raise

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(run) for _ in range(threads)]
        try:
            for each in running:
                each.result()
        finally:
            failed.set()

"""What a backup would send, and what it leaves as it is, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import compress, islice

from imagenet_etl.aws.s3_bucket import Bucket, Listed, LocalFile
from imagenet_etl.aws.s3_contents import Contents, Group, check_there, contents_of
from imagenet_etl.aws.s3_ledger import Ledger, Row, Seen, seen
from imagenet_etl.aws.s3_marks import ArchiveMark, read_mark
from imagenet_etl.aws.s3_parallel import in_parallel
from imagenet_etl.aws.s3_sorted import LinedUp
from imagenet_etl.build import Build
from imagenet_etl.errors import BackupConflict, BackupIncomplete
from imagenet_etl.files import digest_of
from imagenet_etl.stage import Place

SAME = "the same is there"
SEEN = "unchanged since it was last looked at"
INDEXED = "an index of these archives is there"
INDEX = "image index"
BATCH_FILES = 10_000
"""So many files are looked at, sent and noted at a time; memory does not grow with the others."""

_NAMED_FILES = 1000


@dataclass
class GroupPlan:
    """What of a group the bucket lacks.

    Attributes:
        group: Its files.
        ledger: What is known of them without asking.
        lacking: A flag for each file, in the group's order: a byte, since there may be millions.
        lacks_mark: Whether the commit mark is to be sent.
        bytes: Size of all files.
        bytes_to_send: Size of those that the bucket lacks.
        skipped: Why files are not sent, with how many of them there are.
    """

    group: Group
    ledger: Ledger = field(repr=False)
    lacking: bytearray = field(default_factory=bytearray, repr=False)
    lacks_mark: bool = False
    bytes: int = 0
    bytes_to_send: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def files(self) -> int:
        """How many files it has, its mark among them."""
        return len(self.lacking) + (self.group.mark is not None)

    def send(self) -> Iterator[LocalFile]:
        """Yield what the bucket lacks, in the order of the keys, but for the mark."""
        return compress(self.group.files, self.lacking) if 1 in self.lacking else iter(())

    def note(self, file: LocalFile, *, is_lacking: bool) -> None:
        """Count a file, and see that one that is to be sent is there."""
        self.bytes += file.size
        if is_lacking:
            check_there(file)
            self.bytes_to_send += file.size


@dataclass(frozen=True)
class BackupPlan:
    """The work of one backup; nothing of it is done yet.

    Attributes:
        contents: What was asked for.
        groups: What of each group is to be sent.
        marks: The archives whose mark the bucket lacks.
    """

    contents: Contents
    groups: tuple[GroupPlan, ...]
    marks: tuple[ArchiveMark, ...]

    @property
    def bytes_to_send(self) -> int:
        """How much would be sent."""
        return sum(work.bytes_to_send for work in self.groups)

    @property
    def skipped(self) -> dict[str, int]:
        """Why files are not sent, with how many of them there are."""
        return dict(sum((work.skipped for work in self.groups), Counter()))

    def send(self) -> Iterator[LocalFile]:
        """Yield every file that would be sent, in this order."""
        for work in self.groups:
            yield from work.send()
            if work.lacks_mark and work.group.mark is not None:
                yield work.group.mark

    def lines(self) -> list[str]:
        """Return the plan for people: the first files that would be sent, and counts of all."""
        place = self.contents.place
        count = sum(sum(work.lacking) + work.lacks_mark for work in self.groups)
        named = islice(self.send(), _NAMED_FILES)
        lines = [f"send {file.size:>15,} B  {place.uri(file.key)}" for file in named]
        if count > _NAMED_FILES:
            lines.append(f"send {count - _NAMED_FILES:,} files more")
        lines += [
            f"send {'a mark':>17}  {place.uri(place.archive_mark(mark.name, mark.sha256))}"
            for mark in self.marks
        ]
        lines += [f"skip {count:,} files: {why}" for why, count in sorted(self.skipped.items())]
        lines += [f"skip {name}: {why}" for name, why in sorted(self.contents.left_out.items())]
        lines.append(f"{count:,} files to send, {self.bytes_to_send:,} bytes")
        return lines


def plan_backup(place: Place, bucket: Bucket | None = None) -> BackupPlan:
    """Compare what is asked for with what the bucket holds; nothing is written there.

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
    uri = where.uri(where.version(place.done["verify"].facts["version"]))
    groups = []
    for group in contents.groups:
        planner = _Planner(build, bucket, GroupPlan(group, ledger_of(build, uri, group.name)))
        try:
            groups.append(planner.plan())
        except BackupConflict as error:
            if group.name != "index":
                raise
            # It only saves reading the archives again; nothing vouches for what is there.
            contents.left_out[INDEX] = str(error)
    marks = tuple(mark for mark in contents.archives if not _is_marked(bucket, contents, mark))
    return BackupPlan(contents, tuple(groups), marks)


def ledger_of(build: Build, uri: str, group: str) -> Ledger:
    """Return what is known of a group of the version that a URI names, or of its archives."""
    return Ledger(build.storage, f"{build.work}/s3_ledger/{digest_of(uri)[:24]}/{group}")


class _Planner:
    """Lines the files of a group up with a listing and with what is known of them."""

    def __init__(self, build: Build, bucket: Bucket, work: GroupPlan) -> None:
        self._threads = build.settings.s3_connections
        self._bucket, self._work = bucket, work

    def plan(self) -> GroupPlan:
        """Return the plan of the group."""
        work, group = self._work, self._work.group
        mark = group.mark
        listed = None if mark is None else self._listed(mark.key)
        if group.name == "index" and listed is not None:
            work.lacking = bytearray(len(list(group.files)))
            work.bytes = sum(file.size for file in (*group.files, mark) if file is not None)
            work.skipped[INDEXED] = work.files
            return work
        work.ledger.plan(self._classified())
        if mark is not None:
            work.lacks_mark = listed is None
            work.note(mark, is_lacking=work.lacks_mark)
            if listed is not None:
                self._bucket.check(mark)
                work.skipped[SAME] += 1
        return work

    def _listed(self, key: str) -> Listed | None:
        return dict(self._bucket.listing(key)).get(key)

    def _classified(self) -> Iterator[Row]:
        """Flag every file that the bucket lacks; yield what is known of the others."""
        work = self._work
        there = LinedUp(self._bucket.listing(work.group.prefix))
        known = LinedUp(iter(work.ledger))
        for files in batches(work.group.files):
            rows: dict[str, Seen] = {}
            unsure = []
            for file in files:
                listed, row = there.get(file.key), known.get(file.key)
                work.lacking.append(listed is None)
                work.note(file, is_lacking=listed is None)
                if listed is not None and row is not None and row.is_of(file, listed):
                    rows[file.key] = row
                elif listed is not None:
                    unsure.append(file)
            work.skipped[SEEN] += len(rows)
            work.skipped[SAME] += len(unsure)
            for key, row in in_parallel_rows(self._bucket, unsure, self._threads):
                rows[key] = row
            yield from sorted(rows.items())


def in_parallel_rows(bucket: Bucket, files: list[LocalFile], threads: int) -> list[Row]:
    """Look at objects that are there, side by side; return what to note of them.

    Raises:
        BackupConflict: One is something else.
        CloudUnavailable: One is not there.
    """
    rows: list[Row] = []
    in_parallel(files, threads, lambda file: rows.append(seen(file, bucket.check(file).etag)))
    return rows


def batches(files: Iterable[LocalFile]) -> Iterator[list[LocalFile]]:
    """Yield files in lists of at most ``BATCH_FILES``."""
    rest = iter(files)
    while batch := list(islice(rest, BATCH_FILES)):
        yield batch


def _is_marked(bucket: Bucket, contents: Contents, mark: ArchiveMark) -> bool:
    try:
        return read_mark(bucket.client, contents.place, mark.name, mark.sha256) is not None
    except BackupIncomplete:
        return False  # it is damaged, and written anew

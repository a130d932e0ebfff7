"""The worker process of ``pack``: whole segments in, finished files with a segment receipt out."""

from __future__ import annotations

import hashlib
import time
import uuid
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imagenet_etl.archives.location import ArchiveRef, OpenArchive, open_archive
from imagenet_etl.archives.member import Member
from imagenet_etl.build import open_storage
from imagenet_etl.errors import BadImage
from imagenet_etl.files import hash_file, pretty_json, typed_os_errors
from imagenet_etl.images.geometry import parse_resize
from imagenet_etl.images.transform import Transform
from imagenet_etl.index import member_of
from imagenet_etl.leases import Lease, Owner
from imagenet_etl.pool import Handler, Job, Tell, serve
from imagenet_etl.receipts import Output
from imagenet_etl.records.base import Record, RecordWriter, Written
from imagenet_etl.records.layout import LOOSE_FORMATS, shard_name, writer_for
from imagenet_etl.records.table import RECORDS
from imagenet_etl.selection import Segment
from imagenet_etl.stage import publish_output
from imagenet_etl.storage import Storage
from imagenet_etl.tables import batched, open_parquet, write_batches

READ_AHEAD = 32
_TELL_EVERY_S = 0.5
SEGMENT_SCHEMA = 1
_COLUMNS = ["key", "label", "wnid", "file_name", "archive", "member", "header_offset", "offset",
            "stored_size", "size", "method", "crc32"]  # fmt: skip


@dataclass(frozen=True)
class PackJob:
    """What every worker of one pack stage is told at its start.

    Attributes:
        data_dir: The data folder.
        base: Key of the pack stage's folder.
        plan: Key of ``plan.parquet``.
        archives: The verified archives, by name.
        formats: Output formats.
        resize: The resize setting.
        upscale: The upscale setting.
        quality: JPEG quality, 1 to 100.
        max_pixels: The largest image that is decoded.
    """

    data_dir: str
    base: str
    plan: str
    archives: dict[str, dict[str, Any]]
    formats: tuple[str, ...]
    resize: str
    upscale: bool
    quality: int
    max_pixels: int


def segment_file(output: str, segment: Segment, name: str) -> str:
    """Return the key below the pack folder of a segment's file.

    A segment that is a whole shard is written straight to its final place in the tree.
    """
    top = "tree" if segment.parts == 1 or output in LOOSE_FORMATS else "parts"
    return f"{top}/{output}/{segment.split}/{name}"


def segment_name(segment: Segment) -> str:
    """Return the base name of a segment's files."""
    shard = shard_name(segment.split, segment.shard)
    return shard if segment.parts == 1 else f"{shard}-{segment.part:05d}"


class SegmentPacker:
    """Packs segments one after the other."""

    def __init__(self, job: PackJob) -> None:
        self._job = job
        self._storage: Storage = open_storage(job.data_dir)
        self._transform = Transform(
            parse_resize(job.resize), job.upscale, job.quality, job.max_pixels
        )

    def pack(self, job: Job, tell: Tell) -> dict[str, Any]:
        """Pack one segment and publish it; the job holds the segment and its lease."""
        segment = Segment(**job["segment"])
        with typed_os_errors(f"{self._storage.url}/{self._job.base}"):
            return self._pack(segment, job, tell)

    def _pack(self, segment: Segment, job: Job, tell: Tell) -> dict[str, Any]:
        with open_parquet(self._storage, self._job.plan) as plan:
            rows = plan.read_row_group(segment.number, columns=_COLUMNS).to_pylist()
        folder = self._storage.staging() / f"segment-{segment.number}-{uuid.uuid4().hex[:8]}"
        done = _Done()
        with ExitStack() as stack:
            archives = {
                name: stack.enter_context(open_archive(self._storage, ArchiveRef(**ref)))
                for name, ref in self._job.archives.items()
            }
            writers = {
                output: stack.enter_context(
                    writer_for(output, folder / output, segment_name(segment))
                )
                for output in self._job.formats
            }
            self._copy(segment, rows, archives, writers, done, tell)
            written = {output: writer.commit() for output, writer in writers.items()}
            for archive in archives.values():
                archive.check()
        lease = Lease(self._storage, job["lease"], Owner(**job["owner"]), job["fence"])
        return self._publish(segment, folder, written, done, lease)

    def _copy(
        self,
        segment: Segment,
        rows: list[dict[str, Any]],
        archives: dict[str, OpenArchive],
        writers: dict[str, RecordWriter],
        done: _Done,
        tell: Tell,
    ) -> None:
        members = [(archives[row["archive"]], member_of(row)) for row in rows]
        for archive, member in members[:READ_AHEAD]:
            archive.will_need(member)
        told_at, told = time.monotonic(), 0
        for number, (row, (archive, member)) in enumerate(zip(rows, members, strict=True)):
            if number + READ_AHEAD < len(members):
                ahead, next_member = members[number + READ_AHEAD]
                ahead.will_need(next_member)
            try:
                self._one(segment, row, archive, member, writers, done)
            except BadImage as bad:
                done.quarantine(row, bad.reason)
            if time.monotonic() - told_at >= _TELL_EVERY_S:
                tell({"images": number + 1 - told, "bytes": done.take_bytes()})
                told_at, told = time.monotonic(), number + 1
        tell({"images": len(rows) - told, "bytes": done.take_bytes()})

    def _one(
        self,
        segment: Segment,
        row: dict[str, Any],
        archive: OpenArchive,
        member: Member,
        writers: dict[str, RecordWriter],
        done: _Done,
    ) -> None:
        image = self._transform.apply(archive.read(member))
        sha256 = hashlib.sha256(image.data).hexdigest()
        record = Record(row["key"], row["label"], row["wnid"], row["file_name"], image.data, sha256)
        done.count(image.how, len(image.data))
        for output, writer in writers.items():
            placed = writer.write(record)
            done.rows.append(
                (output, segment.split, record.key, record.label, record.wnid, member.name,
                 placed.name, placed.offset, len(image.data), sha256, image.width, image.height,
                 image.how)
            )  # fmt: skip

    def _publish(
        self,
        segment: Segment,
        folder: Path,
        written: dict[str, list[Written]],
        done: _Done,
        lease: Lease,
    ) -> dict[str, Any]:
        records = folder / "records.parquet"
        folder.mkdir(exist_ok=True)
        write_batches(records, RECORDS, batched(done.rows, RECORDS))
        lease.check()
        outputs: list[Output] = []
        for output, files in written.items():
            for file in files:
                name = file.path.relative_to(folder / output).as_posix()
                key = segment_file(output, segment, name)
                if output in LOOSE_FORMATS:
                    self._storage.place(f"{self._job.base}/{key}", file.path)
                else:
                    outputs.append(
                        publish_output(self._storage, self._job.base, key, file.path, file.sha256)
                    )
        sha256 = hash_file(records, "sha256")["sha256"]
        name = f"records/{segment.number:05d}.parquet"
        outputs.append(publish_output(self._storage, self._job.base, name, records, sha256))
        if LOOSE_FORMATS & set(written):
            self._storage.flush(self._job.base)
        receipt = {
            "schema_version": SEGMENT_SCHEMA,
            "segment": asdict(segment),
            "outputs": [asdict(output) for output in outputs],
            "counts": done.counts,
            "quarantined": done.quarantined,
        }
        self._storage.create(
            f"{self._job.base}/segments/{segment.number:05d}.json", pretty_json(receipt)
        )
        return receipt


class _Done:
    """What became of the images of one segment."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.counts = {"packed": 0, "quarantined": 0, "copied": 0, "re-encoded": 0, "repaired": 0}
        self.quarantined: list[dict[str, Any]] = []
        self._bytes = 0

    def count(self, how: str, size: int) -> None:
        self.counts["packed"] += 1
        self.counts[how] += 1
        self._bytes += size

    def quarantine(self, row: dict[str, Any], reason: str) -> None:
        self.counts["quarantined"] += 1
        item = {"path": row["member"], "wnid": row["wnid"], "archive": row["archive"],
                "offset": row["offset"], "reason": reason}  # fmt: skip
        self.quarantined.append(item)

    def take_bytes(self) -> int:
        size, self._bytes = self._bytes, 0
        return size


def start(init: Job) -> Handler:
    """Make the function that does one job."""
    return SegmentPacker(PackJob(**init)).pack


if __name__ == "__main__":
    serve(start)

"""The worker process of ``pack``: whole segments in, finished files with a segment receipt out."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.location import ArchiveRef, OpenArchive, OpenedArchives
from imagenet_etl.archives.member import Member
from imagenet_etl.archives.read_ahead import Planned, read_ahead
from imagenet_etl.aws.worker_client import worker_client
from imagenet_etl.errors import BadImage
from imagenet_etl.files import hash_file, pretty_json, typed_os_errors
from imagenet_etl.images.spec import ImageSpec, parse_image_spec
from imagenet_etl.images.transform import COPIED, RE_ENCODED, REPAIRED, Prepared, Transformer
from imagenet_etl.index import member_of
from imagenet_etl.leases import Lease, Owner
from imagenet_etl.pool import Handler, Job, Tell, serve
from imagenet_etl.records.base import LooseFile, Origin, Placed, Record, RecordWriter, Written
from imagenet_etl.records.formats import FORMATS, LOOSE_FORMATS
from imagenet_etl.records.table import RECORDS
from imagenet_etl.segments import READS, SEGMENT_SCHEMA, PackJob, segment_file, segment_name
from imagenet_etl.selection import Segment
from imagenet_etl.stage import publish_output
from imagenet_etl.storage import Storage
from imagenet_etl.storage.many import each
from imagenet_etl.storage.opening import open_storage
from imagenet_etl.storage.s3_counts import Counted
from imagenet_etl.tables import batched, open_parquet, write_batches

_ROWS = 256
TREATMENTS = (COPIED, RE_ENCODED, REPAIRED)
_TELL_EVERY_S = 0.5
_SIGN_EVERY_S = 20.0
_COLUMNS = ["key", "label", "wnid", "file_name", "archive", "member", "header_offset", "offset",
            "stored_size", "size", "method", "check"]  # fmt: skip


class SegmentPacker:
    """Packs segments one after the other."""

    def __init__(self, job: PackJob) -> None:
        self._job = job
        self._access: Any = None
        self._storage: Storage
        self._archives = {name: ArchiveRef(**ref) for name, ref in job.archives.items()}
        # Only loose files can be links to those of a folder.
        loose = LOOSE_FORMATS & set(job.outputs)
        self._folders = {
            name: Path(ref.location)
            for name, ref in self._archives.items()
            if loose and ref.kind == FOLDER
        }
        specs = {name: parse_image_spec(text) for name, text in job.outputs.items()}
        self._specs = list(dict.fromkeys(specs.values()))
        # Formats that share a spec share its bytes.
        self._spec_of = {name: self._specs.index(spec) for name, spec in specs.items()}
        pixels = {self._spec_of[name] for name, spec in specs.items() if _has_mean(name, spec)}
        self._transformers = {
            wanted: Transformer(self._specs, job.max_pixels, pixels if wanted else ())
            for wanted in (False, True)
        }

    def pack(self, job: Job, tell: Tell) -> dict[str, Any]:
        """Pack one segment and publish it; the job holds the segment, its lease and AWS access."""
        segment = Segment(**job["segment"])
        if job["aws"] != self._access:  # else a client per segment would connect anew each time
            self._access = job["aws"]
            self._storage = open_storage(
                self._job.data_dir, partial(worker_client, self._access), Path(self._job.staging)
            )
        with typed_os_errors(f"{self._storage.url}/{self._job.base}"):
            try:
                return self._pack(segment, job, tell)
            except FileNotFoundError:
                self._storage.staging()  # where it is gone, that is why
                raise

    def _pack(self, segment: Segment, job: Job, tell: Tell) -> dict[str, Any]:
        folder = self._storage.staging() / f"segment-{segment.number}-{uuid.uuid4().hex[:8]}"
        done = _Done(segment.split)
        with ExitStack() as stack:
            plan = stack.enter_context(open_parquet(self._storage, self._job.plan))
            archives = OpenedArchives(self._storage, self._archives, stack)
            writers = {
                output: stack.enter_context(
                    FORMATS[output].open_writer(folder / output, segment_name(segment, output))
                )
                for output in self._job.outputs
            }
            self._copy(segment, _planned(plan, segment, archives), writers, done, tell)
            written = {output: writer.commit() for output, writer in writers.items()}
            for archive in archives.opened.values():
                archive.check()
                done.add_reads(archive.counted())
        lease = Lease(self._storage, job["lease"], Owner(**job["owner"]), job["fence"])
        with nullcontext() if self._storage.on_disk else signs_of_life(tell):
            return self._publish(segment, folder, written, done, lease)

    def _copy(
        self,
        segment: Segment,
        planned: Iterator[Planned],
        writers: dict[str, RecordWriter],
        done: _Done,
        tell: Tell,
    ) -> None:
        transformer = self._transformers[segment.split == "train"]
        told_at, told, number = time.monotonic(), 0, 0
        asked = read_ahead(planned, self._job.read_ahead)
        for number, (row, archive, member) in enumerate(asked, 1):
            done.add_member(archive, member)
            try:
                prepared = transformer.apply(archive.read(member))
            except BadImage as bad:
                done.quarantine(row, bad.reason)
            else:
                self._write(segment.start + number - 1, row, prepared, writers, done)
            if time.monotonic() - told_at >= _TELL_EVERY_S:
                tell({"images": number - told, "bytes": done.take_bytes()})
                told_at, told = time.monotonic(), number
        tell({"images": number - told, "bytes": done.take_bytes()})

    def _write(
        self,
        position: int,
        row: dict[str, Any],
        prepared: list[Prepared],
        writers: dict[str, RecordWriter],
        done: _Done,
    ) -> None:
        origin = self._origin(row)
        records = [
            Record(
                row["key"], position, row["label"], row["wnid"], row["file_name"], image.data,
                hashlib.sha256(image.data).hexdigest(), image.width, image.height, spec.suffix,
                image.pixels, origin if image.how == COPIED else None,
            )
            for spec, image in zip(self._specs, prepared, strict=True)
        ]  # fmt: skip
        done.count(row, prepared)
        for output, writer in writers.items():
            number = self._spec_of[output]
            record = records[number]
            done.add(output, row["member"], record, writer.write(record), prepared[number].how)

    def _origin(self, row: dict[str, Any]) -> Origin | None:
        """Return the file that an image of an unpacked source was read from."""
        folder = self._folders.get(row["archive"])
        if folder is None or row["offset"]:  # it is a part of a class tar
            return None
        return Origin(folder / row["member"], row["size"], row["check"], self._job.hardlink)

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
        finished: list[tuple[str, Path, str]] = []
        for output, files in written.items():
            for file in files:
                if isinstance(file, LooseFile):
                    key = segment_file(output, segment, file.name)
                    self._storage.place(f"{self._job.base}/{key}", file.path)
                    continue
                name = file.path.relative_to(folder / output).as_posix()
                finished.append((segment_file(output, segment, name), file.path, file.sha256))
        sha256 = hash_file(records, "sha256")["sha256"]
        finished.append((f"records/{segment.number:05d}.parquet", records, sha256))
        storage, base = self._storage, self._job.base
        outputs = list(each(storage, lambda file: publish_output(storage, base, *file), finished))
        if LOOSE_FORMATS & set(written):
            self._storage.flush(self._job.base)
        receipt = {
            "schema_version": SEGMENT_SCHEMA,
            "segment": asdict(segment),
            "outputs": [asdict(output) for output in outputs],
            "counts": done.counts,
            "quarantined": done.quarantined,
            "repaired": done.repaired,
        } | done.reads()
        self._storage.create(
            f"{self._job.base}/segments/{segment.number:05d}.json", pretty_json(receipt)
        )
        shutil.rmtree(folder)
        return receipt


class _Done:
    """What became of the images of one segment."""

    def __init__(self, split: str) -> None:
        self._split = split
        self.rows: list[tuple[Any, ...]] = []
        self.counts = dict.fromkeys(("packed", "quarantined", *TREATMENTS), 0)
        self.quarantined: list[dict[str, Any]] = []
        self.repaired: list[dict[str, Any]] = []
        self._bytes = 0
        self._reads = dict.fromkeys(READS, 0)

    def count(self, row: dict[str, Any], prepared: list[Prepared]) -> None:
        """Count an image once, by the most that any output had to have done to it."""
        how = max((image.how for image in prepared), key=TREATMENTS.index)
        self.counts["packed"] += 1
        self.counts[how] += 1
        if how == REPAIRED:
            self.repaired.append(_place_of(row))
        self._bytes += sum(len(image.data) for image in prepared)

    def add(self, output: str, member: str, record: Record, placed: Placed, how: str) -> None:
        self.rows.append(
            (output, self._split, record.key, record.label, record.wnid, member, placed.name,
             placed.offset, len(record.data), record.sha256, record.width, record.height, how)
        )  # fmt: skip

    def quarantine(self, row: dict[str, Any], reason: str) -> None:
        self.counts["quarantined"] += 1
        self.quarantined.append(_place_of(row) | {"reason": reason})

    def add_reads(self, counted: Counted) -> None:
        self._reads["read_requests"] += counted.gets
        self._reads["read_bytes"] += counted.bytes

    def add_member(self, archive: OpenArchive, member: Member) -> None:
        if archive.by_request:
            self._reads["member_bytes"] += member.offset + member.stored_size - member.header_offset

    def reads(self) -> dict[str, dict[str, int]]:
        """Return what reading from buckets cost, nothing where all was on disk."""
        return {"reads": self._reads} if self._reads["read_requests"] else {}

    def take_bytes(self) -> int:
        size, self._bytes = self._bytes, 0
        return size


@contextmanager
def signs_of_life(tell: Tell) -> Iterator[None]:
    """Tell the parent that all is well for as long as the block uploads; it must not tell itself.

    An upload that S3 does not answer ends by the client's own time limits and number of tries,
    which together are longer than the parent's patience with a silent worker.
    """
    done = threading.Event()

    def tell_on() -> None:
        while not done.wait(_SIGN_EVERY_S):
            tell({"images": 0, "bytes": 0})

    thread = threading.Thread(target=tell_on, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _planned(plan: pq.ParquetFile, segment: Segment, archives: OpenedArchives) -> Iterator[Planned]:
    """Yield the segment's rows, each with the archive and the member that it leads to."""
    for batch in plan.iter_batches(_ROWS, row_groups=[segment.number], columns=_COLUMNS):
        for row in batch.to_pylist():
            yield row, archives[row["archive"]], member_of(row)


def _place_of(row: dict[str, Any]) -> dict[str, Any]:
    return {"path": row["member"], "wnid": row["wnid"], "archive": row["archive"],
            "offset": row["offset"]}  # fmt: skip


def _has_mean(output: str, spec: ImageSpec) -> bool:
    return FORMATS[output].wants_pixels and spec.fixed_size is not None


def start(init: Job) -> Handler:
    """Make the function that does one job."""
    return SegmentPacker(PackJob(**init)).pack


if __name__ == "__main__":
    serve(start)

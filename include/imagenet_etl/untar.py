"""Stage ``untar``: list what an archive holds, without unpacking a byte of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pyarrow as pa

from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.location import ArchiveRef, OpenArchive, archives_of, open_archive
from imagenet_etl.aws.s3_restore_index import index_from_backup
from imagenet_etl.build import Build
from imagenet_etl.index import INDEX, SIDE_FILES
from imagenet_etl.index_counts import Found
from imagenet_etl.index_parts import PARTS, IndexParts, regrouped
from imagenet_etl.own_members import own_members
from imagenet_etl.progress import Meter, metered
from imagenet_etl.receipts import Receipt, outputs_intact
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import batched, write_batches

log = logging.getLogger(__name__)


def untar(place: Place) -> Result:
    """Write ``images.parquet`` and ``side_files.parquet``.

    What class tars hold is listed in parts; a run that is killed loses one of them at most. Where
    the backup has the index of these very archives, it is taken from there.

    Raises:
        BadArchive, UnsafeMember, UnexpectedMember: The archive cannot be accepted.
        CountMismatch: It holds other numbers of images or classes than the published ones.
        StillPending: The time of this task is used up; the next call goes on.
    """
    if (taken := index_from_backup(place)) is not None:
        return taken
    build, download = place.build, place.done["download"]
    splits = download.facts["splits"]
    published = build.settings.expect == "published"
    found = Found(build.facts, splits, build.settings.max_bad_classes)
    images = place.scratch()
    with metered("untar", found.expected_images, "images") as meter:
        write_batches(images, INDEX, _tables(place, found, meter))
    found.check_counts(published=published)
    side_files = place.scratch()
    write_batches(side_files, SIDE_FILES, batched(sorted(found.side_files), SIDE_FILES))
    return Result(
        counts=found.counts(published=published),
        outputs=(
            place.publish("images.parquet", images),
            place.publish("side_files.parquet", side_files),
        ),
        facts=found.told(),
    )


def index_is_good(build: Build, receipt: Receipt) -> bool:
    """Return whether an index is as it was, and lacks no more classes than the run allows.

    The index is the same whatever the budget, so a larger one must not ask for another.
    """
    lacking = receipt.counts.get("bad_classes", 0) + receipt.counts.get("missing_classes", 0)
    return lacking <= build.settings.max_bad_classes and outputs_intact(build, receipt)


def remove_parts(place: Place) -> None:
    """Remove the parts that the index was joined from."""
    place.build.storage.delete(f"{place.base}/{PARTS}")


def _tables(place: Place, found: Found, meter: Meter) -> Iterator[pa.Table]:
    """Yield the index of all archives, in tables of the size of a row group."""
    build, download = place.build, place.done["download"]
    deadline = None if build.slice_s is None else time.monotonic() + build.slice_s
    for ref in archives_of(download).values():
        with open_archive(build.storage, ref) as archive:
            held = build.facts.archive(ref.name).splits
            sorter = Sorter(build.facts, ref.name, held, found.splits, found.max_bad_classes)
            members = own_members(place, ref, archive)
            for table in regrouped(_metered(sorter.own_images(archive, members), meter)):
                found.count(table)
                yield table
            parts = IndexParts(place, ref, sorter, meter)
            parts.complete(archive, deadline)
            for table in parts.tables():
                found.count(table)
                yield table
            archive.check()
            found.add_archive(ref, sorter)
            _tell_reads(ref, archive)


def _tell_reads(ref: ArchiveRef, archive: OpenArchive) -> None:
    cost = archive.counted()
    if cost.gets:
        log.info(
            "untar %s: listing it took %s GETs, %s bytes of its %s",
            ref.name, f"{cost.gets:,}", f"{cost.bytes:,}", f"{ref.size:,}",
        )  # fmt: skip


def _metered(tables: Iterator[pa.Table], meter: Meter) -> Iterator[pa.Table]:
    for table in tables:
        meter.add(table.num_rows)
        yield table

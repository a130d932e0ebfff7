"""Stage ``untar``: list what an archive holds, without unpacking a byte of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.location import archives_of, open_archive
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.errors import CountMismatch
from imagenet_etl.index import INDEX, SIDE_FILES
from imagenet_etl.progress import metered
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import ROWS_PER_BATCH, batched, write_batches


def untar(place: Place) -> Result:
    """Write ``images.parquet`` and ``side_files.parquet``.

    Raises:
        BadArchive, UnsafeMember, UnexpectedMember: The archive cannot be accepted.
        CountMismatch: It holds other numbers of images than the published ones.
    """
    build = place.build
    found = _Found(build.facts)
    images = place.scratch()
    with metered("untar", sum(build.facts.expected.values()), "images") as meter:

        def tables() -> Iterator[pa.Table]:
            for ref in archives_of(place.done["download"]).values():
                with open_archive(build.storage, ref) as archive:
                    sorter = Sorter(build.facts, ref.name)
                    for table in sorter.images(archive):
                        found.count(table)
                        meter.add(table.num_rows)
                        yield table
                    archive.check()
                    found.side_files += sorter.side_files

        write_batches(images, INDEX, regrouped(tables()))
    found.check_counts(published=build.settings.expect == "published")
    side_files = place.scratch()
    write_batches(side_files, SIDE_FILES, batched(sorted(found.side_files), SIDE_FILES))
    counts = {f"{split}_images": found.images[split] for split in build.facts.layout.images}
    return Result(
        counts=counts | {"classes": len(found.wnids)},
        outputs=(
            place.publish("images.parquet", images),
            place.publish("side_files.parquet", side_files),
        ),
        facts={"published_counts": found.is_published()},
    )


def regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables to such of about ``ROWS_PER_BATCH``, for row groups of a good size."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(item.num_rows for item in gathered) >= ROWS_PER_BATCH:
            yield pa.concat_tables(gathered).combine_chunks()
            gathered = []
    if any(item.num_rows for item in gathered):
        yield pa.concat_tables(gathered).combine_chunks()


class _Found:
    """What the archives of a dataset turned out to hold."""

    def __init__(self, facts: DatasetFacts) -> None:
        self._facts = facts
        self.images: Counter[str] = Counter()
        self.wnids: set[str] = set()
        self.side_files: list[tuple[object, ...]] = []

    def count(self, images: pa.Table) -> None:
        """Count the images of an index table by split, and note their classes."""
        for item in pc.value_counts(images["split"]).to_pylist():
            self.images[item["values"]] += item["counts"]
        self.wnids.update(pc.unique(images["wnid"].drop_null()).to_pylist())

    def is_published(self) -> bool:
        """Return whether the numbers of images and classes are the published ones."""
        return self.images == self._facts.expected and len(self.wnids) == self._facts.classes

    def check_counts(self, *, published: bool) -> None:
        """Refuse an empty archive, and one with other counts when the published ones are asked for.

        Raises:
            CountMismatch: The numbers differ.
        """
        if self.images.total() == 0:
            raise CountMismatch(
                f"{self._facts.title} archive holds no image",
                remedy="Is it the right archive? Download it again",
            )
        found = {split: self.images[split] for split in self._facts.layout.images}
        if published and not self.is_published():
            raise CountMismatch(
                f"{self._facts.title} archive holds another number of images",
                expected=f"{self._facts.expected} in {self._facts.classes} classes",
                found=f"{found} in {len(self.wnids)} classes",
                remedy="For a sample, run with --expect any",
            )

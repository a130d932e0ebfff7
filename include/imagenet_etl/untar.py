"""Stage ``untar``: list what an archive holds, without unpacking a byte of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.layout import SideFile, Sorter
from imagenet_etl.archives.location import ArchiveRef, archives_of, open_archive
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.errors import CountMismatch, UnexpectedMember
from imagenet_etl.index import INDEX, SIDE_FILES
from imagenet_etl.progress import metered
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import ROWS_PER_BATCH, batched, write_batches

log = logging.getLogger(__name__)


def untar(place: Place) -> Result:
    """Write ``images.parquet`` and ``side_files.parquet``.

    Raises:
        BadArchive, UnsafeMember, UnexpectedMember: The archive cannot be accepted.
        CountMismatch: It holds other numbers of images than the published ones.
    """
    build, download = place.build, place.done["download"]
    splits = download.facts["splits"]
    found = _Found(build.facts, splits)
    images = place.scratch()
    with metered("untar", found.expected_images, "images") as meter:

        def tables() -> Iterator[pa.Table]:
            for ref in archives_of(download).values():
                with open_archive(build.storage, ref) as archive:
                    held = build.facts.archive(ref.name).splits
                    sorter = Sorter(build.facts, ref.name, held, splits)
                    for table in sorter.images(archive):
                        found.count(table)
                        meter.add(table.num_rows)
                        yield table
                    archive.check()
                    found.add_archive(ref, sorter)

        write_batches(images, INDEX, regrouped(tables()))
    found.check_counts(published=build.settings.expect == "published")
    side_files = place.scratch()
    write_batches(side_files, SIDE_FILES, batched(sorted(found.side_files), SIDE_FILES))
    counts = {f"{split}_images": found.images[split] for split in splits}
    return Result(
        counts=counts | {"classes": len(found.wnids)},
        outputs=(
            place.publish("images.parquet", images),
            place.publish("side_files.parquet", side_files),
        ),
        facts={"published_counts": found.is_published(), "layouts": found.layouts},
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

    def __init__(self, facts: DatasetFacts, splits: Sequence[str]) -> None:
        self._facts = facts
        self._expected = {split: facts.expected[split] for split in splits}
        self.images: Counter[str] = Counter()
        self.wnids: set[str] = set()
        self.side_files: list[SideFile] = []
        self.layouts: dict[str, str] = {}

    @property
    def expected_images(self) -> int:
        """The published number of images in the wanted splits."""
        return sum(self._expected.values())

    def add_archive(self, ref: ArchiveRef, sorter: Sorter) -> None:
        """Note how an archive is laid out, and what lies beside its images.

        Raises:
            UnexpectedMember: A side file was in another archive already.
        """
        layout = layout_in_words(ref.kind, sorter.forms)
        self.layouts[ref.name] = layout
        passed = f"; {sorter.passed_over:,} files are not needed" if sorter.passed_over else ""
        log.info("untar %s: %s%s", ref.name, layout, passed)
        known = {row[-1]: row[0] for row in self.side_files}
        for row in sorter.side_files:
            if row[-1] in known:
                raise UnexpectedMember(
                    f"{row[-1]} is in two places",
                    found=f"in {known[row[-1]]} and in {ref.name}",
                    remedy="Leave one of them out of the sources",
                )
        self.side_files += sorter.side_files

    def count(self, images: pa.Table) -> None:
        """Count the images of an index table by split, and note their classes."""
        for item in pc.value_counts(images["split"]).to_pylist():
            self.images[item["values"]] += item["counts"]
        self.wnids.update(pc.unique(images["wnid"].drop_null()).to_pylist())

    def is_published(self) -> bool:
        """Return whether the numbers of images and of known classes are the published ones."""
        classes = self._facts.classes if self.wnids else 0
        return self.images == self._expected and len(self.wnids) == classes

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
        found = {split: self.images[split] for split in self._expected}
        if published and not self.is_published():
            raise CountMismatch(
                f"{self._facts.title} archive holds another number of images",
                expected=f"{self._expected} in {self._facts.classes} classes",
                found=f"{found} in {len(self.wnids)} classes",
                remedy="For a sample, run with --expect any; for one split alone, with --split",
            )


def layout_in_words(kind: str, forms: dict[str, str]) -> str:
    """Return what an archive turned out to be.

    Args:
        kind: ``zip``, ``tar``, ``tar.gz`` or ``folder``.
        forms: What ``Sorter.forms`` found.
    """
    place = "folder" if kind == FOLDER else kind
    if forms.get("root", "").endswith("CLS-LOC/"):
        return f"Kaggle's layout in a {place}"
    if forms.get("tar"):
        return "a tar of class tars"
    if forms.get("top") or forms.get("val"):
        return f"an unpacked tree in a {place}"
    return f"a {place}"

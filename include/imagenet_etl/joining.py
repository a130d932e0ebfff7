"""The dataset's folder tree as it grows, and the files in it that are made of several segments."""

from __future__ import annotations

import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.files import hash_file
from imagenet_etl.processes import cores
from imagenet_etl.receipts import Output
from imagenet_etl.records.base import Written
from imagenet_etl.records.formats import DATABASE, FORMATS, SHARDS, Format, shard_name
from imagenet_etl.records.lmdb import map_bytes, mean_files, mean_image, write_database
from imagenet_etl.records.shard import JoiningWriter, concatenate
from imagenet_etl.records.table import RECORDS
from imagenet_etl.segments import segment_file, segment_name
from imagenet_etl.selection import Segment
from imagenet_etl.stage import Place, publish_output
from imagenet_etl.storage.local_copy import local_copy
from imagenet_etl.storage.many import each
from imagenet_etl.streams import HashedFile


@dataclass
class NewTree:
    """The tree below a pack stage's folder.

    Attributes:
        place: The pack stage's place.
        outputs: Its files so far.
        texts: Small files that wait to be published, each with its name in the tree.
        starts: By format and number of a joined segment, the byte at which it starts in its shard.
        written_twice: Bytes that were written as a part first.
    """

    place: Place
    outputs: list[Output] = field(default_factory=list)
    texts: list[tuple[str, Path]] = field(default_factory=list)
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    written_twice: int = 0

    @property
    def base(self) -> str:
        """Key of the tree."""
        return f"{self.place.base}/tree"

    def add(self, name: str, path: Path, sha256: str = "") -> None:
        """Publish a finished file under its name in the tree.

        Raises:
            LeaseLost: A later try of the task does so.
        """
        self.outputs.append(self._published(name, path, sha256))

    def _published(self, name: str, path: Path, sha256: str = "") -> Output:
        self.place.build.check_owner()
        sha256 = sha256 or hash_file(path, "sha256")["sha256"]
        return publish_output(self.place.build.storage, self.base, name, path, sha256)

    def add_text(self, name: str, text: str | bytes) -> None:
        """Have ``publish_texts`` publish a small file with this content."""
        path = self.place.scratch()
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        self.texts.append((name, path))

    def publish_texts(self) -> None:
        """Publish the small files, side by side where each costs a bucket's latency.

        Raises:
            LeaseLost: A later try of the task does so.
        """
        storage = self.place.build.storage
        self.outputs += each(storage, lambda text: self._published(*text), self.texts)
        self.texts.clear()

    def part(self, output: str, segment: Segment, suffix: str) -> AbstractContextManager[Path]:
        """Give the path of a part of a shard or database, a copy of it where it is in a bucket."""
        name = f"{segment_name(segment, output)}{suffix}"
        key = f"{self.place.base}/{segment_file(output, segment, name)}"
        return local_copy(self.place.build.storage, key)

    def moved(self, table: pa.Table, segment: Segment) -> pa.Table:
        """Return a segment's rows of ``records.parquet`` with their places in joined shards."""
        for output in self.place.build.settings.outputs:
            start = self.starts.get((output, segment.number))
            if start is None:
                continue
            is_here = pc.equal(table["output"], output)
            name = f"{shard_name(segment.split, segment.shard)}{_suffixes(FORMATS[output])[0]}"
            for column, value in (("offset", pc.add(table["offset"], start)), ("shard", name)):
                at = table.schema.get_field_index(column)
                values = pc.if_else(is_here, value, table[column])
                table = table.set_column(at, RECORDS.field(column), values)
        return table


def join_segments(tree: NewTree, segments: list[Segment]) -> None:
    """Make every file of the tree that consists of several segments: their bytes' second write."""
    for output in tree.place.build.settings.outputs:
        kind = FORMATS[output].kind
        if kind == SHARDS:
            _join_shards(tree, FORMATS[output], segments)
        elif kind == DATABASE:
            _build_databases(tree, FORMATS[output], segments)


def _suffixes(item: Format) -> tuple[str, ...]:
    assert item.writer is not None
    return item.writer.suffixes


def _join_shards(tree: NewTree, item: Format, segments: list[Segment]) -> None:
    groups = [list(g) for _, g in groupby(segments, key=lambda s: (s.split, s.shard))]
    joined = [group for group in groups if len(group) > 1]
    at_once = cores()
    with ThreadPoolExecutor(at_once) as threads:
        # No more of them than work at once, so that finished ones do not pile up on the disk.
        running = deque(threads.submit(_join_shard, tree, item, g) for g in joined[:at_once])
        for number, group in enumerate(joined):
            written, starts = running.popleft().result()
            for file in written:
                tree.add(item.path(group[0].split, file.path.name), file.path, file.sha256)
            written[0].path.parent.rmdir()
            for one, at in zip(group, starts, strict=True):
                tree.starts[item.name, one.number] = at
            tree.written_twice += sum(file.size for file in written)
            running.extend(
                threads.submit(_join_shard, tree, item, following)
                for following in joined[number + at_once : number + at_once + 1]
            )


def _join_shard(
    tree: NewTree, item: Format, group: list[Segment]
) -> tuple[list[Written], list[int]]:
    """Return the joined files, and where each segment starts in them; changes nothing else."""
    assert item.writer is not None
    assert issubclass(item.writer, JoiningWriter)
    name = shard_name(group[0].split, group[0].shard)
    with ExitStack() as stack:
        parts = [
            [stack.enter_context(tree.part(item.name, one, suffix)) for suffix in _suffixes(item)]
            for one in group
        ]
        return concatenate(item.writer, parts, tree.place.scratch(), name)


def _build_databases(tree: NewTree, item: Format, segments: list[Segment]) -> None:
    """Fill one database a split, and write the lists and mean files that belong to it."""
    for split, group in groupby(segments, key=lambda segment: segment.split):
        _build_database(tree, item, split, list(group))
    classes = tree.place.done["plan_shards"].facts["classes"]
    tree.add_text(f"{item.name}/labels.txt", "".join(f"{entry['wnid']}\n" for entry in classes))


def _build_database(tree: NewTree, item: Format, split: str, group: list[Segment]) -> None:
    records = sum(segment.records for segment in group)
    with ExitStack() as stack:
        messages, lists, sums = (
            [stack.enter_context(tree.part(item.name, segment, suffix)) for segment in group]
            for suffix in _suffixes(item)
        )
        folder = tree.place.scratch()
        database = write_database(messages, folder, map_bytes(messages, records))
        tree.written_twice += database.stat().st_size
        tree.add(item.path(split, database.name), database)
        shutil.rmtree(folder)
        listing, listed = HashedFile(tree.place.scratch()), 0
        for path in lists:
            lines = path.read_bytes()
            listing.write(lines)
            listed += lines.count(b"\n")
        tree.add(f"{item.name}/{split}.txt", listing.path, listing.close().sha256)
        if split == "train":
            _add_mean(tree, item, sums, listed)


def _add_mean(tree: NewTree, item: Format, sums: list[Path], records: int) -> None:
    mean = mean_image(sums, records)
    for name, content in ({} if mean is None else mean_files(mean)).items():
        tree.add_text(f"{item.name}/{name}", content)

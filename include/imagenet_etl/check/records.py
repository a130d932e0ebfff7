"""Check shards and databases record by record against ``records.parquet``."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Self

from imagenet_etl.check.run import Run
from imagenet_etl.check.table import NAME, RecordFile, RecordTable, Row, with_ends
from imagenet_etl.check.tree import Tree
from imagenet_etl.errors import RecordError
from imagenet_etl.manifest import ManifestFile
from imagenet_etl.records.base import Content
from imagenet_etl.records.formats import DATABASE
from imagenet_etl.records.lmdb import key_of, read_database
from imagenet_etl.storage.local_copy import local_copy
from imagenet_etl.streams import size_and_sha256


class _Stream:
    """A file that is read once and in order, hashed and counted on the way."""

    def __init__(self, blocks: Iterator[memoryview], run: Run) -> None:
        self._blocks = blocks
        self._run = run
        self._read = bytearray()
        self._sha256 = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # An error's traceback may keep this object, and must not keep its file open.
        self._blocks = iter(())

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end of the file."""
        while len(self._read) < size and (block := next(self._blocks, None)) is not None:
            self._sha256.update(block)
            self._read += block
            self._run.count(len(block))
        with memoryview(self._read) as view:
            taken = bytes(view[:size])
        del self._read[:size]
        return taken

    def digest(self) -> str:
        """Return the digest of all that was read."""
        return self._sha256.hexdigest()


def check_shard(run: Run, file: ManifestFile, table: RecordTable, of: RecordFile) -> None:
    """Read a shard once: its digest, its index, and what each of its records says.

    Raises:
        DatasetDamaged: Something differs.
    """
    tree, item, at = run.tree, of.item, 0
    assert item.read is not None
    last = file.size - len(item.end)
    with (
        closing(_read_index(tree, of)) as index,
        tree.opened(file.name, file.size) as opened,
        _Stream(iter(opened.blocks()), run) as stream,
    ):
        for row, end in with_ends(table.rows(of), last):
            if row.offset != at or not at < end <= last:
                raise tree.damaged(NAME, f"records of {of.name} one after the other", row)
            _check_entry(tree, of, next(index, None), row)
            try:
                content = item.read(stream.take(end - at))
            except RecordError as error:
                raise tree.damaged(of.name, f"a record at byte {at}", error) from error
            _compare(run, of, row, content)
            at = end
        if next(index, None) is not None:
            raise tree.damaged(_index_name(of), f"the keys and offsets of {NAME}", "more")
        if stream.take(len(item.end) + 1) != item.end:
            raise tree.damaged(of.name, "nothing after its last record", "more")
    if stream.digest() != file.sha256:
        raise tree.damaged(of.name, f"sha256 {file.sha256}", stream.digest())


def _index_name(of: RecordFile) -> str:
    assert of.item.writer is not None
    data, index, *_ = of.item.writer.suffixes
    return f"{of.name.removesuffix(data)}{index}"


def _read_index(tree: Tree, of: RecordFile) -> Generator[tuple[int | None, int], None, None]:
    assert of.item.read_index is not None
    try:
        yield from of.item.read_index(tree.lines(_index_name(of)))
    except RecordError as error:
        raise tree.damaged(_index_name(of), found=error) from error


def _check_entry(
    tree: Tree, of: RecordFile, entry: tuple[int | None, int] | None, row: Row
) -> None:
    if entry is None or entry[1] != row.offset or entry[0] not in (None, row.key):
        raise tree.damaged(_index_name(of), f"the keys and offsets of {NAME}", "others")


def check_database(run: Run, file: ManifestFile, table: RecordTable, of: RecordFile) -> None:
    """Compare a database with its digest, without which it cannot be mapped safely; then read it.

    Raises:
        DatasetDamaged: Something differs.
    """
    tree = run.tree
    try:
        # It is mapped, and so has to be on a disk.
        with local_copy(tree.storage, tree.key(of.name)) as path:
            run.compare(file, size_and_sha256(path))
            _check_messages(run, table, of, path)
    except (FileNotFoundError, IsADirectoryError):
        raise tree.damaged(of.name, "a file", "nothing") from None
    except RecordError as error:
        raise tree.damaged(of.name, found=error) from error


def _check_messages(run: Run, table: RecordTable, of: RecordFile, path: Path) -> None:
    assert of.item.read is not None
    with closing(read_database(path)) as records:
        for row, found in zip_longest(table.rows(of), records):
            if row is None or found is None:
                raise run.tree.damaged(of.name, f"as many records as {NAME} tells of", "others")
            key = key_of(row.offset, row.label)
            if found[0] != key:
                raise run.tree.damaged(of.name, f"key {key!r}", repr(found[0]))
            _compare(run, of, row, of.item.read(found[1]))
            run.count(0)


def _compare(run: Run, of: RecordFile, row: Row, found: Content) -> None:
    same = (found.label, len(found.image)) == (row.label, row.bytes)
    if not same or found.key not in (None, row.key) or not _is_same_image(of, row, found):
        raise run.tree.damaged(of.name, f"record {row.key} at {row.offset}", "another")
    run.sample.check(run.tree, of.name, row.offset, found.image)


def _is_same_image(of: RecordFile, row: Row, found: Content) -> bool:
    """Compare an image with the digest that it had when it was made, where no other digest tells.

    A shard that was written in one go was hashed on its way to the disk. What was made of several
    segments, or of a database's parts, was hashed after these had been read back from there.
    """
    if of.item.kind != DATABASE and len(of.groups) == 1:
        return True
    return hashlib.sha256(found.image).hexdigest() == row.sha256

"""Check formats of one file an image against ``files.parquet``, and that there is no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.check.run import Job, Run
from imagenet_etl.check.tree import Tree
from imagenet_etl.manifest import MANIFEST, Manifest, ManifestFile
from imagenet_etl.records import lmdb
from imagenet_etl.records.formats import loose_table
from imagenet_etl.tables import open_parquet

_BATCH = 1024


def total_bytes(tree: Tree, output: str) -> int:
    """Return the bytes of a format's loose files."""
    return sum(pc.sum(batch["size"]).as_py() or 0 for batch in _batches(tree, output))


def check_loose(run: Run, output: str, expected: int) -> Iterator[Job]:
    """Yield jobs that compare every loose file with its digest.

    Args:
        run: The check.
        output: The format.
        expected: How many files there should be.

    Raises:
        DatasetDamaged: The table lists another number.
    """
    count = 0
    for batch in _batches(run.tree, output):
        yield partial(_check_batch, run, f"{output}/{count}", batch)
        count += batch.num_rows
    if count != expected:
        raise run.tree.damaged(loose_table(output), f"{expected:,} files", f"{count:,}")


def _batches(tree: Tree, output: str) -> Iterator[pa.RecordBatch]:
    with open_parquet(tree.storage, tree.key(loose_table(output))) as table:
        yield from table.iter_batches(_BATCH)


def _check_batch(run: Run, noted_as: str, batch: pa.RecordBatch) -> None:
    output = noted_as.partition("/")[0]
    files = [
        ManifestFile(f"{output}/{row['name']}", row["size"], row["sha256"])
        for row in batch.to_pylist()
    ]
    run.once(noted_as, files, partial(_check_files, run, files))


def _check_files(run: Run, files: list[ManifestFile]) -> None:
    for file in files:
        run.check_file(file)
        if (file.name, 0) in run.sample.rows:
            image = run.tree.storage.read(run.tree.key(file.name)) or b""
            run.sample.check(run.tree, file.name, 0, image)


def check_nothing_else(tree: Tree, manifest: Manifest, loose: list[str]) -> None:
    """Refuse files that nobody recorded: to ImageFolder a stray folder is one more class.

    Memory: 8 bytes a loose file.

    Raises:
        DatasetDamaged: There is one.
    """
    known = {file.name for file in manifest.files} | {MANIFEST}
    known.update(_locks(manifest))  # a training that read a database has not damaged it
    is_listed = {output: _listed(tree, output) for output in loose}
    for key, _ in tree.storage.list(tree.base):
        name = key if tree.base == "." else key[len(tree.base) + 1 :]
        output = name.partition("/")[0]
        if name not in known and not (output in is_listed and is_listed[output](name)):
            raise tree.damaged(name, "no such file", "one that the manifest does not know")


def _locks(manifest: Manifest) -> Iterator[str]:
    for file in manifest.files:
        folder, _, name = file.name.rpartition("/")
        if name == lmdb.DATABASE:
            yield f"{folder}/{lmdb.LOCK}"


def _listed(tree: Tree, output: str) -> Callable[[str], bool]:
    """Return a test of whether ``files.parquet`` lists a name; of names it keeps only hashes."""
    hashes = np.concatenate(
        [np.empty(0, np.int64)]
        + [
            np.fromiter((hash(f"{output}/{name}") for name in batch["name"].to_pylist()), np.int64)
            for batch in _batches(tree, output)
        ]
    )
    hashes.sort()

    def is_listed(name: str) -> bool:
        wanted = hash(name)
        at = int(hashes.searchsorted(wanted))
        return at < len(hashes) and hashes[at] == wanted

    return is_listed

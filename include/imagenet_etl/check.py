"""Read a dataset version back and compare it with its manifest and tables."""

from __future__ import annotations

import hashlib
import io
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from imagenet_etl.digests import digest_object
from imagenet_etl.errors import DatasetDamaged, RecordError
from imagenet_etl.manifest import MANIFEST, Manifest, ManifestFile
from imagenet_etl.progress import Meter, metered
from imagenet_etl.records.layout import LOOSE_FORMATS, loose_table
from imagenet_etl.records.recordio import read_frame, read_index, unpack_image
from imagenet_etl.storage import ReadAt, Storage
from imagenet_etl.tables import open_parquet, read_table

SAMPLE = 64
"""How many images are decoded, spread over all outputs."""

_LOOSE_BATCH = 1024
_COLUMNS = ["key", "label", "offset", "bytes", "sha256"]


@dataclass(frozen=True)
class Tree:
    """A dataset version's folder: published, or still in a pack stage's folder."""

    storage: Storage
    base: str

    def key(self, name: str) -> str:
        """Return the storage key of one of its files."""
        return f"{self.base}/{name}"

    def damaged(self, name: str, expected: object = "", found: object = "") -> DatasetDamaged:
        """Return the error that names one of its files."""
        return DatasetDamaged(
            f"{self.storage.url}/{self.key(name)} is damaged",
            expected=expected,
            found=found,
            remedy="Restore it from the backup, or remove the version and build it again",
        )


def check_tree(tree: Tree, manifest: Manifest) -> dict[str, int]:
    """Read every file once and compare it with what was recorded; decode a seeded sample.

    Returns:
        How many files, records and bytes were read, and how many images were decoded.

    Raises:
        DatasetDamaged: A file is missing, differs, or holds other records than its table says.
    """
    shards = [file for file in manifest.files if file.name.endswith(".rec")]
    others = [file for file in manifest.files if file not in shards]
    loose_formats = LOOSE_FORMATS & set(manifest.settings["formats"])
    with metered("verify", sum(file.size for file in manifest.files), "B") as meter:
        _run_all([partial(_check_file, tree, file, meter) for file in others])
        # Only now can records.parquet and files.parquet be trusted.
        rows = _rows_by_shard(tree)
        _check_row_count(tree, rows, manifest)
        loose = {output: _loose_files(tree, output) for output in loose_formats}
        meter.total += sum(pc.sum(table["size"]).as_py() or 0 for table in loose.values())
        jobs = [partial(_check_shard, tree, file, rows, meter) for file in shards]
        for output, table in loose.items():
            for batch in table.to_batches(max_chunksize=_LOOSE_BATCH):
                jobs.append(partial(_check_loose, tree, output, batch, meter))
        _run_all(jobs)
        _check_nothing_else(tree, manifest, loose)
        decoded = _decode_sample(tree, manifest)
    files = len(manifest.files) + sum(table.num_rows for table in loose.values())
    records = sum(table.num_rows for table in rows.values())
    return {"files": files, "records": records, "bytes": meter.items, "decoded": decoded}


def _check_nothing_else(tree: Tree, manifest: Manifest, loose: dict[str, pa.Table]) -> None:
    """Refuse files that nobody recorded: to ImageFolder a stray folder is one more class."""
    known = {file.name for file in manifest.files} | {MANIFEST}
    for output, table in loose.items():
        known.update(f"{output}/{name}" for name in table["name"].to_pylist())
    for key, _ in tree.storage.list(tree.base):
        name = key if tree.base == "." else key[len(tree.base) + 1 :]
        if name not in known:
            raise tree.damaged(name, "no such file", "one that the manifest does not know")


def _run_all(jobs: list[partial[None]]) -> None:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
        futures = [executor.submit(job) for job in jobs]
        try:
            for future in futures:
                future.result()
        finally:
            executor.shutdown(cancel_futures=True)


def _check_file(tree: Tree, file: ManifestFile, meter: Meter) -> None:
    _compare(tree, file.name, file.size, file.sha256)
    meter.add(file.size)


@contextmanager
def _opened(tree: Tree, name: str, size: int) -> Iterator[ReadAt]:
    """Open a file that must be there and have this size in bytes."""
    try:
        with tree.storage.open(tree.key(name)) as opened:
            if opened.stat.size != size:
                raise tree.damaged(name, f"{size:,} bytes", f"{opened.stat.size:,} bytes")
            yield opened
    except FileNotFoundError:
        raise tree.damaged(name, "a file", "nothing") from None


def _compare(tree: Tree, name: str, size: int, sha256: str) -> None:
    with _opened(tree, name, size) as opened:
        digest = digest_object(opened)
    if digest != sha256:
        raise tree.damaged(name, f"sha256 {sha256}", digest)


def _rows_by_shard(tree: Tree) -> dict[tuple[str, str, str], pa.Table]:
    """Return the rows of ``records.parquet`` by output, split and shard."""
    table = read_table(tree.storage, tree.key("records.parquet"))
    rows: dict[tuple[str, str, str], pa.Table] = {}
    for output in pc.unique(table["output"]).to_pylist():
        of_output = table.filter(pc.equal(table["output"], output))
        if output in LOOSE_FORMATS:
            rows[output, "", ""] = of_output
            continue
        for split in pc.unique(of_output["split"]).to_pylist():
            of_split = of_output.filter(pc.equal(of_output["split"], split))
            for shard in pc.unique(of_split["shard"]).to_pylist():
                rows[output, split, shard] = of_split.filter(pc.equal(of_split["shard"], shard))
    return rows


def _check_row_count(
    tree: Tree, rows: dict[tuple[str, str, str], pa.Table], manifest: Manifest
) -> None:
    for output in manifest.settings["formats"]:
        count = sum(table.num_rows for (name, *_), table in rows.items() if name == output)
        if count != manifest.counts["packed"]:
            expected = f"{manifest.counts['packed']:,} records of {output}"
            raise tree.damaged("records.parquet", expected, f"{count:,}")


def _check_shard(
    tree: Tree, file: ManifestFile, rows: dict[tuple[str, str, str], pa.Table], meter: Meter
) -> None:
    """Read a ``.rec`` once: its digest, and every record against index and table."""
    output, split, shard = file.name.split("/")
    table = rows.get((output, split, shard))
    expected = table.select(_COLUMNS).to_pylist() if table is not None else []
    index_name = f"{output}/{split}/{shard.removesuffix('.rec')}.idx"
    text = (tree.storage.read(tree.key(index_name)) or b"").decode()
    try:
        index = list(read_index(text))
    except RecordError as error:
        raise tree.damaged(index_name, found=error) from error
    if index != [(row["key"], row["offset"]) for row in expected]:
        raise tree.damaged(index_name, "the keys and offsets of records.parquet", "others")
    digest = hashlib.sha256()
    with _opened(tree, file.name, file.size) as opened:
        ends = [offset for _, offset in index[1:]] + [file.size]
        for row, end in zip(expected, ends, strict=False):
            data = opened.read_at(row["offset"], end - row["offset"])
            digest.update(data)
            _check_record(tree, file.name, data, row)
            meter.add(len(data))
    if digest.hexdigest() != file.sha256:
        raise tree.damaged(file.name, f"sha256 {file.sha256}", digest.hexdigest())


def _check_record(tree: Tree, name: str, data: bytes, row: dict[str, object]) -> None:
    try:
        content, end = read_frame(data, 0)
        image = unpack_image(content)
    except RecordError as error:
        raise tree.damaged(name, f"a record at byte {row['offset']}", error) from error
    found = (image.key, image.labels, hashlib.sha256(image.image).hexdigest(), end)
    if found != (row["key"], (row["label"],), row["sha256"], len(data)):
        raise tree.damaged(name, f"record {row['key']} at byte {row['offset']}", "another")


def _loose_files(tree: Tree, output: str) -> pa.Table:
    return read_table(tree.storage, tree.key(loose_table(output)))


def _check_loose(tree: Tree, output: str, batch: pa.RecordBatch, meter: Meter) -> None:
    for row in batch.to_pylist():
        _compare(tree, f"{output}/{row['name']}", row["size"], row["sha256"])
        meter.add(row["size"])


def _decode_sample(tree: Tree, manifest: Manifest) -> int:
    count = 0
    for row in _sample(tree, manifest):
        name = f"{row['output']}/{row['split']}/{row['shard']}"
        data = _image_bytes(tree, name, row)
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                found = image.size
        except Exception as error:
            raise tree.damaged(name, f"an image at byte {row['offset']}", error) from error
        if found != (row["width"], row["height"]):
            raise tree.damaged(name, f"{row['width']}x{row['height']} pixels", found)
        count += 1
    return count


def _sample(tree: Tree, manifest: Manifest) -> Iterator[dict[str, object]]:
    with open_parquet(tree.storage, tree.key("records.parquet")) as parquet:
        total = parquet.metadata.num_rows
        rng = random.Random(manifest.settings["seed"])
        wanted = sorted(rng.sample(range(total), min(SAMPLE, total)))
        first = 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            here = [number - first for number in wanted if first <= number < first + count]
            if here:
                yield from parquet.read_row_group(group).take(here).to_pylist()
            first += count


def _image_bytes(tree: Tree, name: str, row: dict[str, object]) -> bytes:
    with tree.storage.open(tree.key(name)) as opened:
        if row["output"] in LOOSE_FORMATS:
            return opened.read_at(0, opened.stat.size)
        # The framing adds at most a header, an image header, padding and a header a split.
        size = int(str(row["bytes"])) * 3 + 64
        return unpack_image(read_frame(opened.read_at(int(str(row["offset"])), size), 0)[0]).image

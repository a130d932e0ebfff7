"""Formats of one file an image: whether all of them are still there."""

from __future__ import annotations

from collections.abc import Iterable

from imagenet_etl.build import Build
from imagenet_etl.receipts import Receipt
from imagenet_etl.records.formats import LOOSE_FORMATS, loose_table
from imagenet_etl.tables import open_parquet


def loose_files_intact(build: Build, receipt: Receipt) -> bool:
    """Return whether each loose format has just the files that its table lists, by name and size.

    Beside them may lie what the receipt itself names, such as the table and ``meta.bin``. Nothing
    is read but the table and the folders, and memory does not grow with their number.
    """
    names = {output.name for output in receipt.outputs}
    return all(
        _is_intact(build, receipt, output)
        for output in LOOSE_FORMATS
        if loose_table(output) in names
    )


def _is_intact(build: Build, receipt: Receipt, output: str) -> bool:
    folder = receipt.key_of(output)
    others = {receipt.key_of(item.name) for item in receipt.outputs}
    with open_parquet(build.storage, receipt.key_of(loose_table(output))) as table:
        expected = _fingerprint(
            (name.as_py(), size.as_py())
            for batch in table.iter_batches(columns=["name", "size"])
            for name, size in zip(*batch.columns, strict=True)
        )
    cut = len(folder) + 1
    return expected == _fingerprint(
        (key[cut:], stat.size) for key, stat in build.storage.list(folder) if key not in others
    )


def _fingerprint(files: Iterable[tuple[str, int]]) -> tuple[int, int]:
    """Return the number of files and the sum of their hashes, which no order changes."""
    count = total = 0
    for file in files:
        count += 1
        total += hash(file)
    return count, total

"""An index of millions of images that a small archive stands for, to show how the stages scale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.errors import ConfigError
from imagenet_etl.index import INDEX
from imagenet_etl.samples.imagenet_full import LARGEST_TO_SMALLEST, file_number
from imagenet_etl.samples.images import new_file
from imagenet_etl.tables import ROWS_PER_BATCH, write_batches

_Numbers = npt.NDArray[np.int64]


def write_synthetic_index(
    path: Path, rows: int, classes: int, pool: pa.Table, archive: str = "fall11_whole.tar"
) -> dict[str, int]:
    """Write ``images.parquet`` as if a tar of class tars had been indexed; return class sizes.

    Row *k* lies where member *k* modulo their number of the pool lies, so that any rows can be
    packed from the archive that the pool was listed from. Class sizes have a long tail, as those
    of ``imagenet_full``, and rows stand class by class. Memory is that of one row group.

    Args:
        path: The file to write.
        rows: Number of images.
        classes: Number of classes, with made-up wnids.
        pool: The members of a real archive, a table after ``archives.listing.MEMBERS``.
        archive: The archive's name in the index.

    Returns:
        The number of images by wnid.

    Raises:
        ConfigError: There are fewer rows than classes, no class, or no member in the pool.
        KeyExists: ``path`` is there already.
    """
    if not 1 <= classes <= min(rows, 99_999_999) or not pool.num_rows:
        raise ConfigError(
            "synthetic index",
            expected="at least one class, one row a class and one member in the pool",
            found=f"{classes:,} classes, {rows:,} rows, {pool.num_rows:,} members",
        )
    sizes = spread(rows, classes)
    with new_file(path) as staged:
        write_batches(staged, INDEX, _row_groups(sizes, pool, archive))
    return dict(zip(_wnids(np.arange(1, classes + 1)).to_pylist(), sizes.tolist(), strict=True))


def spread(rows: int, classes: int) -> _Numbers:
    """Return long-tailed class sizes that add up to ``rows``, at least 1 each, in a fixed order.

    ``(classes,) int64``; what rounding leaves over goes to the largest classes.
    """
    places = np.arange(classes) / max(1, classes - 1)
    weights = 1 / (1 + (LARGEST_TO_SMALLEST - 1) * places)
    sizes: _Numbers = 1 + ((rows - classes) * weights / weights.sum()).astype(np.int64)
    sizes[: rows - int(sizes.sum())] += 1
    # A class's wnid says nothing of its size, so the kept classes must not be the first ones.
    return sizes[np.argsort(file_number(0, np.arange(classes)), kind="stable")]


def _row_groups(sizes: _Numbers, pool: pa.Table, archive: str) -> Iterator[pa.Table]:
    ends = np.cumsum(sizes)
    rows = int(ends[-1])
    places = pool.drop_columns(["member"]).combine_chunks()
    for first in range(0, rows, ROWS_PER_BATCH):
        row = np.arange(first, min(first + ROWS_PER_BATCH, rows))
        number = np.searchsorted(ends, row, side="right")
        place = row - (ends - sizes)[number]
        wnids = _wnids(number + 1)
        suffix = pa.array(file_number(number + 1, place)).cast(pa.string())
        names = pc.binary_join_element_wise(wnids, "_", suffix, ".JPEG", "")
        columns = {
            "archive": pa.repeat(archive, len(row)),
            "member": pc.binary_join_element_wise(wnids, ".tar/", names, ""),
            "split": pa.repeat("train", len(row)),
            "wnid": wnids,
            "file_name": names,
        }
        table = places.take(pa.array(row % pool.num_rows))
        for name, column in columns.items():
            table = table.append_column(name, column)
        yield table.select(INDEX.names).cast(INDEX)


def _wnids(numbers: _Numbers) -> pa.Array:
    digits = pa.array(numbers).cast(pa.string())
    return pc.binary_join_element_wise("n", pc.utf8_lpad(digits, 8, "0"), "")

"""The plan as list files, for whoever packs with im2rec or looks at what will be packed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from imagenet_etl.build import Build
from imagenet_etl.packing import read_segments
from imagenet_etl.pipeline import receipts_up_to
from imagenet_etl.records.formats import shard_name
from imagenet_etl.samples.images import new_folder
from imagenet_etl.tables import row_groups

_PLAIN = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")


def write_lists(build: Build, out: Path) -> int:
    """Write a ``.lst`` file for each planned shard, as ``im2rec.py --list`` writes it.

    A line is key, label with six decimals, and ``<wnid>/<file name>``, with tabs between them.

    Args:
        build: The run's view of the dataset.
        out: The folder to write.

    Returns:
        The number of files.

    Raises:
        StageNotDone: Nothing is planned yet.
        KeyExists: The folder is there already.
    """
    plan = receipts_up_to(build, "plan_shards")["plan_shards"]
    segments = read_segments(build.storage, plan)
    columns = ["key", "label", "wnid", "file_name"]
    tables = row_groups(build.storage, plan.key_of("plan.parquet"), columns)
    files = set()
    with new_folder(out) as folder:
        for segment, table in zip(segments, tables, strict=True):
            path = folder / f"{shard_name(segment.split, segment.shard)}.lst"
            files.add(path)
            with path.open("ab") as file:
                csv.write_csv(_lines(table), file, _PLAIN)
    return len(files)


def _lines(table: pa.Table) -> pa.Table:
    label = pc.binary_join_element_wise(table["label"].cast(pa.string()), "000000", ".")
    path = pc.binary_join_element_wise(table["wnid"], table["file_name"], "/")
    return pa.table([table["key"], label, path], names=["key", "label", "path"])

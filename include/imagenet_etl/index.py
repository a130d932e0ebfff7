"""The image index: one row an image, saying where it lies and what it is."""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

import pyarrow as pa

from imagenet_etl.archives.listing import MEMBERS
from imagenet_etl.archives.member import Member
from imagenet_etl.storage import Storage
from imagenet_etl.tables import row_groups, versioned

_WHERE = [("archive", pa.string()), *((field.name, field.type) for field in MEMBERS)]
INDEX = versioned([*_WHERE, ("split", pa.string()), ("wnid", pa.string()),
                   ("file_name", pa.string())])  # fmt: skip
"""``images.parquet``; ``wnid`` is null while a split's labels are not known."""

SIDE_FILES = versioned([*_WHERE, ("path", pa.string())])
"""``side_files.parquet``: labels and annotations, kept verbatim under ``annotations/<path>``."""

PLAN = versioned(
    [
        ("segment", pa.int32()),
        ("shard", pa.int32()),
        ("key", pa.int64()),
        ("label", pa.int32()),
        *((field.name, field.type) for field in INDEX),
    ]
)
"""``plan.parquet``: one row group a segment, rows in the order in which they are packed."""


VAL_IMAGES = versioned([("wnid", pa.string()), ("file_name", pa.string()), ("row", pa.int64())])
"""``val_images.parquet``: training images that became validation images; ``row`` is that of the
index, counted from 0."""


class ClassEntry(TypedDict):
    """A class, as receipts hold it; its place in their list is its label.

    ``ilsvrc_id`` is the publisher's own number, where it has one; ``names`` are separated by
    commas, and empty where nobody gave any.
    """

    wnid: str
    ilsvrc_id: int | None
    names: str


def class_sizes(storage: Storage, key: str) -> dict[str, Counter[str]]:
    """Count the images of an index by split and wnid; those without a class are passed over."""
    sizes: dict[str, Counter[str]] = {}
    for table in row_groups(storage, key, ["split", "wnid"]):
        grouped = table.group_by(["split", "wnid"], use_threads=False).aggregate(
            [([], "count_all")]
        )
        for row in grouped.to_pylist():
            if row["wnid"] is not None:
                sizes.setdefault(row["split"], Counter())[row["wnid"]] += row["count_all"]
    return sizes


def member_of(row: dict[str, object]) -> Member:
    """Return the member that a row of any of these tables leads to."""
    name, *where = (row[column] for column in MEMBERS.names)
    return Member(str(name), *where)  # type: ignore[arg-type]

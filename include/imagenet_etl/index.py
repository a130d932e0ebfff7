"""The image index: one row an image, saying where it lies and what it is."""

from __future__ import annotations

import pyarrow as pa

from imagenet_etl.archives.listing import MEMBERS
from imagenet_etl.archives.member import Member
from imagenet_etl.tables import versioned

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


def member_of(row: dict[str, object]) -> Member:
    """Return the member that a row of any of these tables leads to."""
    name, *where = (row[column] for column in MEMBERS.names)
    return Member(str(name), *where)  # type: ignore[arg-type]

"""The image index: one row an image, saying where it lies and what it is."""

from __future__ import annotations

import pyarrow as pa

from imagenet_etl.archives.member import Member
from imagenet_etl.tables import versioned

_WHERE = [
    ("archive", pa.string()),
    ("member", pa.string()),
    ("header_offset", pa.int64()),
    ("offset", pa.int64()),
    ("stored_size", pa.int64()),
    ("size", pa.int64()),
    ("method", pa.int8()),
    ("check", pa.int64()),
]
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


def where(archive: str, member: Member) -> tuple[object, ...]:
    """Return a member's values for the columns that say where it lies."""
    return (
        archive, member.name, member.header_offset, member.offset, member.stored_size,
        member.size, member.method, member.check,
    )  # fmt: skip


def member_of(row: dict[str, object]) -> Member:
    """Return the member that a row of any of these tables leads to."""
    return Member(
        name=str(row["member"]),
        **{  # type: ignore[arg-type]
            name: row[name]
            for name in ("header_offset", "offset", "stored_size", "size", "method", "check")
        },
    )

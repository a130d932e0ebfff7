"""``records.parquet``: one row for each record of each output."""

from __future__ import annotations

import pyarrow as pa

from imagenet_etl.tables import versioned

RECORDS = versioned(
    [
        ("output", pa.string()),
        ("split", pa.string()),
        ("key", pa.int64()),
        ("label", pa.int32()),
        ("wnid", pa.string()),
        ("member", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("how", pa.string()),
    ]
)
"""``shard`` is the file's name below ``<output>/<split>``, ``offset`` where the record starts in
it and ``bytes`` the length of the image file, whose digest is ``sha256``."""

LOOSE_FILES = versioned([("name", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])
"""``<output>/files.parquet`` of a format of loose files, by name below ``<output>``."""

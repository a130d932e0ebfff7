"""An archive's own members, walked through once though its index takes several slices.

To get from class tar to class tar costs a read each: of the full ImageNet's 21,841 in a bucket some
eleven minutes, and that before each slice.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.listing import MEMBERS
from imagenet_etl.archives.location import ArchiveRef, OpenArchive
from imagenet_etl.index_parts import PARTS
from imagenet_etl.stage import Place

log = logging.getLogger(__name__)

_WORTH_S = 5.0
"""A walk that took less is sooner made again than noted."""
_MOST = 1 << 16
"""An archive with more members of its own is not one of class tars; its index has no slices."""
_MADE_FROM = b"archive"


def own_members(place: Place, ref: ArchiveRef, archive: OpenArchive) -> Iterator[pa.Table]:
    """Yield an archive's own members as ``archive.listed`` does, from the notes of an earlier walk.

    Args:
        place: The stage's place.
        ref: The archive.
        archive: The same, open.

    Raises:
        BadArchive, UnsafeMember: As for ``listed``.
    """
    key = f"{place.base}/{PARTS}/{ref.name}/members.parquet"
    noted = None if ref.kind == FOLDER else _noted(place, ref, key)
    if noted is not None:
        log.info("untar %s: %s members of its own were found before", ref.name, noted.num_rows)
        yield noted
        return
    tables, rows, began = [], 0, time.monotonic()
    for table in archive.listed():
        rows += table.num_rows
        if rows <= _MOST:
            tables.append(table)
        else:
            tables.clear()
        yield table
    is_long = time.monotonic() - began >= _WORTH_S
    if tables and is_long and ref.kind != FOLDER:
        sink = io.BytesIO()
        schema = MEMBERS.with_metadata({_MADE_FROM: _made_from(ref)})
        pq.write_table(pa.concat_tables(tables).cast(schema), sink)
        place.build.storage.put(key, sink.getvalue())


def _noted(place: Place, ref: ArchiveRef, key: str) -> pa.Table | None:
    data = place.build.storage.read(key)
    if data is None:
        return None
    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid:
        return None  # damaged, which is as good as none
    is_same = (table.schema.metadata or {}).get(_MADE_FROM) == _made_from(ref)
    return table.cast(MEMBERS) if is_same and table.schema.equals(MEMBERS) else None


def _made_from(ref: ArchiveRef) -> bytes:
    return f"{ref.name} {ref.size} {ref.tag}".encode()

"""An archive's own members, walked through once though its index takes several slices.

To get from class tar to class tar costs a read each: of the full ImageNet's 21,841 in a bucket some
eleven minutes, and that before each slice.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.listing import MEMBERS
from imagenet_etl.archives.location import ArchiveRef, OpenArchive
from imagenet_etl.files import check_schema, digest_of
from imagenet_etl.index_parts import PARTS
from imagenet_etl.stage import Place

log = logging.getLogger(__name__)

NOTES_SCHEMA = 1
_WORTH_S = 5.0
"""A walk that took less is sooner made again than noted."""
_MOST = 1 << 15
"""An archive with more members of its own is not one of class tars; its index has no slices."""


def own_members(place: Place, ref: ArchiveRef, archive: OpenArchive) -> Iterator[pa.Table]:
    """Yield an archive's own members as ``archive.listed`` does, from the notes of an earlier walk.

    Args:
        place: The stage's place.
        ref: The archive.
        archive: The same, open.

    Raises:
        BadArchive, UnsafeMember: As for ``listed``.
        SchemaTooNew: A newer version of this project made the notes.
    """
    if place.build.facts.layout.class_tars is None or ref.kind == FOLDER:
        yield from archive.listed()
        return
    key = f"{place.base}/{PARTS}/{ref.name}/members.json"
    noted = _noted(place, ref, key)
    if noted is not None:
        rows = sum(table.num_rows for table in noted)
        log.info("untar %s: its %s own members were found before", ref.name, f"{rows:,}")
        yield from noted
        return
    tables, rows, began = [], 0, time.monotonic()
    for table in archive.listed():
        rows += table.num_rows
        if rows <= _MOST:
            tables.append(table)
        else:
            tables.clear()
        yield table
    if tables and time.monotonic() - began >= _WORTH_S:
        archive.check()
        place.build.check_owner()
        place.build.storage.put(key, _encoded(ref, tables))


def _encoded(ref: ArchiveRef, tables: list[pa.Table]) -> bytes:
    fields = {
        "schema_version": NOTES_SCHEMA,
        "archive": _told_apart_by(ref),
        "tables": [[column.to_pylist() for column in table.columns] for table in tables],
    }
    return json.dumps(fields | {"digest": digest_of(fields)}).encode()


def _noted(place: Place, ref: ArchiveRef, key: str) -> list[pa.Table] | None:
    """Return the tables of an earlier walk; None where there are none, or they are damaged."""
    fields: dict[str, Any]
    try:
        fields = json.loads(place.build.storage.read(key) or b"{}")
        digest = fields.pop("digest")
    except (ValueError, KeyError):
        return None
    if digest != digest_of(fields):
        return None
    check_schema(key, fields["schema_version"], NOTES_SCHEMA)
    if fields["archive"] != _told_apart_by(ref):
        return None
    return [pa.table(columns, schema=MEMBERS) for columns in fields["tables"]]


def _told_apart_by(ref: ArchiveRef) -> list[str | int]:
    return [ref.name, ref.size, ref.tag]

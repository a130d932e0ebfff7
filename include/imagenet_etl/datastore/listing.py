"""List what the datastore has, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from imagenet_etl.datastore.catalog import Catalog, Entry, backups_of, images_of
from imagenet_etl.datastore.store import place_of
from imagenet_etl.storage import Storage

_HEAD = ("VERSION", "IMAGES", "SIZE", "PUBLISHED", "FORMATS", "WHERE")
_RIGHT = {1, 2}
_GIGA, _MEGA = 1e9, 1e6


def listed(storage: Storage | None, catalogs: Mapping[str, Catalog]) -> dict[str, Any]:
    """Return everything that is known, JSON-ready: by dataset its latest version and all of them.

    Each version has, beside what its entry holds, ``on_this_machine``: its path, or null.
    """
    return {
        name: {
            "latest": catalog.latest,
            "versions": {
                version: entry | {"on_this_machine": place_of(storage, entry)}
                for version in catalog.newest_first
                for entry in [catalog.versions[version]]
            },
        }
        for name, catalog in catalogs.items()
    }


def listing_lines(storage: Storage | None, catalogs: Mapping[str, Catalog]) -> Iterator[str]:
    """Yield a table a dataset, newest versions first, the latest marked."""
    for name, catalog in catalogs.items():
        yield name
        rows: list[tuple[str, ...]] = [_HEAD]
        for version in catalog.newest_first:
            entry = catalog.versions[version]
            rows.append(_row(catalog, version, entry, place_of(storage, entry)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        for row in rows:
            cells = [
                cell.rjust(width) if column in _RIGHT else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield f"  {'  '.join(cells)}".rstrip()


def size_in_words(size: int) -> str:
    """Return bytes as ``1.4 GB``, or ``4.2 MB`` where that is little."""
    if size >= _GIGA:
        return f"{size / _GIGA:,.1f} GB"
    return f"{size / _MEGA:,.1f} MB"


def _row(catalog: Catalog, version: str, entry: Entry, here: str | None) -> tuple[str, ...]:
    mark = " (latest)" if version == catalog.latest else ""
    mark = " (being removed)" if entry.get("removing") else mark
    at = entry["published_at"]
    day = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" if at else ""
    size = entry.get("bytes", 0)
    return (
        f"{version}{mark}",
        f"{images_of(entry):,}",
        size_in_words(size) if size else "",
        day,
        ", ".join(entry["formats"]),
        "; ".join(_places(entry, here)),
    )


def _places(entry: Entry, here: str | None) -> Iterator[str]:
    yield here if here is not None else f"{entry['path']} (not on this machine)"
    archives = ", archives as well" if entry.get("archives_backed_up") else ""
    for uri in backups_of(entry):
        yield f"{uri}{archives}"
        archives = ""
    for region, snapshot in entry.get("snapshots", {}).items():
        yield f"{snapshot} in {region}" if region else snapshot
    if accounts := entry.get("shared_with"):
        yield f"shared with {', '.join(accounts)}"
    for uri in backups_of(entry.get("elsewhere", {})):
        yield f"other content of this name in {uri}"

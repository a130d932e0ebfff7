"""How much of a data volume's first snapshot is archives.

A snapshot holds whatever lies on the volume when it begins. That is before ``publish``, which lets
archives go, so ``keep_archives`` makes no difference to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imagenet_etl.archives.location import archives_of
from imagenet_etl.build import Build
from imagenet_etl.download.asked import asked_for
from imagenet_etl.download.sources import Source, sources_of
from imagenet_etl.preflight.archives import Known
from imagenet_etl.receipts import Receipt


def archives_planned(build: Build, archives: Sequence[Known]) -> int:
    """Return about how many bytes of archives will lie below a data folder on a disk.

    Args:
        build: The run.
        archives: What ``known_archives`` found for it.

    Raises:
        ConfigError, SourceNotFound: The settings' sources cannot be used.
    """
    if not build.storage.on_disk:
        return 0
    return sum(
        _planned(build, source, one)
        for source, one in zip(sources_of(build).archives, archives, strict=True)
    )


def _planned(build: Build, source: Source, one: Known) -> int:
    is_there = one.path is not None and _is_inside(build, str(one.path))
    size = one.whole or (one.size or 0 if is_there else 0)
    if not one.is_given:
        return size
    if one.path is None and asked_for(build, source.archive, source.place).path is None:
        return size  # nothing is there yet: what is fetched counts with what it is unpacked to
    return size + _packed(build, source, str(one.path or ""))


def archives_found(build: Build, downloaded: Receipt) -> int:
    """Return how many bytes of the archives of a run lie below a data folder on a disk.

    Args:
        build: The run.
        downloaded: The receipt of ``download``.

    Raises:
        ConfigError, SourceNotFound: The settings' sources cannot be used.
    """
    if not build.storage.on_disk:
        return 0
    refs = archives_of(downloaded)
    return sum(
        (ref.size if _is_inside(build, ref.location) else 0) + _packed(build, source, ref.location)
        for source in sources_of(build).archives
        if (ref := refs.get(source.archive.name)) is not None
    )


def _packed(build: Build, source: Source, location: str) -> int:
    """Return the bytes of what was unpacked to the archive that is read, if they are kept too."""
    asked, root = asked_for(build, source.archive, source.place), Path(build.storage.url)
    path = root / (asked.path or asked.key)
    if path.resolve() == (root / location).resolve() or not _is_inside(build, str(path)):
        return 0
    return path.stat().st_size if path.is_file() else 0


def _is_inside(build: Build, location: str) -> bool:
    """Return whether a key of the data folder, or a path, lies below the data folder."""
    if "://" in location:
        return False
    root = Path(build.storage.url).resolve()
    return (root / location).resolve().is_relative_to(root)

"""The archives of a run as far as they can be known without hashing and asking publishers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from imagenet_etl.archives import tar_gz
from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.archive import noted
from imagenet_etl.download.asked import Asked, asked_for, backup_url
from imagenet_etl.download.fetched import part_of
from imagenet_etl.download.sources import Source, sources_of
from imagenet_etl.download.unpacked import leftovers, tar_key

LABELS_BYTES = 4 << 20
"""A devkit has about 2.5 MB; its length is not published."""

MAX_LISTED = 2000
"""Files of a folder that are looked at one by one, some milliseconds; more would take too long."""

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Known:
    """What is known of one archive; None stands for what is not.

    Attributes:
        name: Its name.
        splits: The splits whose images it holds.
        size: Bytes of what is read in the end; no less than those of its images.
        whole: Bytes that it takes in the data folder once all is fetched and unpacked.
        missing: Bytes of those that are still to be written.
        path: Where it can be read on this machine already.
        is_given: Whether there is a source to speak of, be it a backup that may hold it; else the
            sizes are those of what is published, and the download will say what is wrong.
    """

    name: str
    splits: tuple[str, ...]
    size: int | None
    whole: int | None
    missing: int | None
    path: Path | None = None
    is_given: bool = True


def known_archives(build: Build) -> list[Known]:
    """Look at every archive that a run needs.

    Raises:
        ConfigError, SourceNotFound: The settings' sources cannot be used.
    """
    return [_known(build, source) for source in sources_of(build).archives]


def _known(build: Build, source: Source) -> Known:
    facts = source.archive
    if not (source.place or backup_url(build, facts.name)):
        # Behind a login: whoever runs it will have to say where it is.
        return replace(_fetched(facts, _published_size(build, facts, "")), is_given=False)
    asked = asked_for(build, facts, source.place)
    if asked.path is not None and asked.path.is_dir():
        size = _size_of_folder(build, facts, asked.path)
        return Known(facts.name, facts.splits, size, 0, 0, asked.path)
    note = noted(build, facts, source.place)
    if note is not None:
        size, location = note.archive.size, note.archive.location
        in_place = location.startswith("s3://") or location == str(asked.path)
        path = Path(location) if location.startswith("/") else build.storage.local_path(location)
        return Known(facts.name, facts.splits, size, 0 if in_place else size, 0, path)
    if asked.path is not None:
        return _in_place(build, asked, asked.path)
    if asked.in_bucket:
        return _in_bucket(build, asked)
    size = _published_size(build, facts, source.place or asked.source)
    return _to_be_fetched(build, asked, size)


def _in_place(build: Build, asked: Asked, path: Path) -> Known:
    """Describe an archive that is not verified yet; it is never copied, but perhaps unpacked."""
    facts = asked.facts
    try:
        with path.open("rb") as file:
            size, magic = os.fstat(file.fileno()).st_size, file.read(2)
    except OSError:  # the download says so
        published = _published_size(build, facts, "")
        return Known(facts.name, facts.splits, published, 0, 0, is_given=False)
    if magic == _GZIP_MAGIC and size > tar_gz.MAX_PACKED_BYTES:
        tar = _unpacked(size)
        return Known(facts.name, facts.splits, tar, tar, max(0, tar - _half_unpacked(build, asked)))
    return Known(facts.name, facts.splits, size, 0, 0, path)


def _in_bucket(build: Build, asked: Asked) -> Known:
    """Describe an archive in a bucket that is not verified yet; it is never copied."""
    facts = asked.facts
    place, _, key = asked.in_bucket.rpartition("/")
    stat = build.storage.at(place).stat(key) if key else None
    if stat is None:  # the download says so
        published = _published_size(build, facts, "")
        return Known(facts.name, facts.splits, published, 0, 0, is_given=False)
    return Known(facts.name, facts.splits, stat.size, 0, 0)


def _to_be_fetched(build: Build, asked: Asked, size: int | None) -> Known:
    path = build.storage.local_path(asked.key)
    if path is None:
        return _fetched(asked.facts, size)
    if path.exists():
        size = have = path.stat().st_size
    else:
        have = _on_disk(part_of(path))
    return _fetched(asked.facts, size, have, _half_unpacked(build, asked))


def _fetched(facts: ArchiveFacts, size: int | None, have: int = 0, have_tar: int = 0) -> Known:
    """Describe an archive that lies, in the end, in the data folder.

    Args:
        facts: The archive.
        size: Its length, as far as it is known.
        have: Bytes of it that are there.
        have_tar: Bytes of the tar that it is unpacked to that are there.
    """
    if size is None:
        return Known(facts.name, facts.splits, None, None, None)
    missing = max(0, size - have)
    if facts.kind == "tar.gz" and size > tar_gz.MAX_PACKED_BYTES:
        tar = _unpacked(size)
        missing += max(0, tar - have_tar)
        return Known(facts.name, facts.splits, tar, size + tar, missing)
    return Known(facts.name, facts.splits, size, size, missing)


def _half_unpacked(build: Build, asked: Asked) -> int:
    """Return the bytes of unfinished tars, whose room the next try takes over."""
    path = build.storage.local_path(tar_key(build, asked))
    return 0 if path is None else sum(map(_on_disk, leftovers(path)))


def _on_disk(path: Path) -> int:
    """Return how much of a file's length is on the disk; nothing for one that is not there.

    Ranges that arrive in any order leave holes, which are still to be filled.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        return 0
    return min(state.st_size, state.st_blocks * 512)


def _unpacked(packed: int) -> int:
    """Return about how long a tar of JPEGs is: they hardly shrink, its headers and padding do."""
    return packed + packed // 20


def _published_size(build: Build, facts: ArchiveFacts, place: str) -> int | None:
    """Return the length that is published, where the run asks for what was published."""
    if not facts.splits:
        return facts.size or LABELS_BYTES
    if build.settings.expect != "published" and place not in ("", facts.url):
        return None
    return facts.size or facts.about_bytes or _size_of_parts(build, facts) or None


def _size_of_parts(build: Build, facts: ArchiveFacts) -> int:
    """Return the length of the archives that a bundle stands for; 0 for what is no bundle."""
    if facts != build.facts.bundle:
        return 0
    return sum(part.size or part.about_bytes for part in build.facts.archives)


def _size_of_folder(build: Build, facts: ArchiveFacts, path: Path) -> int | None:
    """Return the length of what a folder was unpacked from, or of its files if they are few."""
    files = list(islice(_files(path), MAX_LISTED + 1))
    if len(files) <= MAX_LISTED:
        return sum(files)
    return _published_size(build, facts, str(path))


def _files(path: Path) -> Iterator[int]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False).st_size

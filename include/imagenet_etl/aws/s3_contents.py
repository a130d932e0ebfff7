"""What a backup consists of: a published version, its archives, and their image index."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.location import ArchiveRef, archives_of
from imagenet_etl.aws.s3_bucket import LocalFile
from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_marks import ArchiveMark
from imagenet_etl.aws.s3_sorted import SortedRows
from imagenet_etl.errors import BackupIncomplete, StageNotDone
from imagenet_etl.files import hash_file
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.receipts import Receipt
from imagenet_etl.records.formats import LOOSE_FORMATS, loose_table
from imagenet_etl.stage import Place
from imagenet_etl.tables import row_groups

INDEX_RECEIPT = "receipt.json"


@dataclass(frozen=True)
class Group:
    """Files below one key prefix that are sent together.

    Attributes:
        name: What they are: ``archives``, ``index`` or ``version``.
        prefix: Their key prefix, with a slash at its end.
        files: All but the commit mark, in the order of their keys; can be read many times.
        mark: The file that tells that all are there; archives have marks of their own.
    """

    name: str
    prefix: str
    files: Iterable[LocalFile]
    mark: LocalFile | None = None


@dataclass(frozen=True)
class Contents:
    """What is asked for.

    Attributes:
        place: The dataset's part of the backup.
        groups: The files, in the order in which they are sent.
        archives: What the mark of each archive is to say.
        left_out: Why something that was asked for cannot be backed up, by name.
    """

    place: BackupPlace
    groups: tuple[Group, ...] = ()
    archives: tuple[ArchiveMark, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def contents_of(place: Place) -> Contents:
    """Return what the settings ask to be backed up.

    Raises:
        StageNotDone: A stage that is to be backed up has lost its receipt.
    """
    build = place.build
    where = backup_place(build.settings.s3_uri, build.facts.name)
    asked = build.settings.back_up
    version = (_version(place, where),) if "dataset" in asked else ()
    if "archives" not in asked:
        return Contents(where, version)
    download = place.done["download"]
    refs = archives_of(download)
    left_out = {
        name: "a folder is not backed up; pack it first" for name, ref in refs.items()
        if ref.kind == FOLDER
    }  # fmt: skip
    archives = [
        _archive(place, where, download, ref) for name, ref in refs.items() if name not in left_out
    ]
    files = sorted((file for file, _ in archives), key=attrgetter("key"))
    groups = [Group("archives", where.archives, files)] if files else []
    if not left_out:  # the index tells where in all of the archives the images are
        groups.append(_index(place, where))
    return Contents(where, (*groups, *version), tuple(mark for _, mark in archives), left_out)


class _VersionFiles:
    """The files of a version but for its manifest, in the order of their keys.

    Those of a format of loose files are read from disk, so that memory does not grow with them.
    """

    def __init__(self, place: Place, prefix: str) -> None:
        storage, verified = place.build.storage, place.done["verify"]
        root = _local(place, verified.base)
        others = (item for item in verified.outputs if item.name != MANIFEST)
        rows = sorted((item.name, item.size, item.sha256) for item in others)
        self._sources: list[tuple[str, Path, Iterable[tuple[Any, ...]]]] = [(prefix, root, rows)]
        for loose in sorted(LOOSE_FORMATS & set(place.build.settings.outputs)):
            table = row_groups(storage, verified.key_of(loose_table(loose)))
            by_key = SortedRows(table, place.scratch())
            self._sources.append((f"{prefix}{loose}/", root / loose, by_key))

    def __iter__(self) -> Iterator[LocalFile]:
        return heapq.merge(*(_files(*source) for source in self._sources), key=attrgetter("key"))


def _files(prefix: str, folder: Path, rows: Iterable[tuple[Any, ...]]) -> Iterator[LocalFile]:
    for name, size, sha256 in rows:
        yield LocalFile(f"{prefix}{name}", folder / name, size, sha256)


def _version(place: Place, where: BackupPlace) -> Group:
    verified = place.done["verify"]
    prefix = f"{where.version(verified.facts['version'])}/"
    manifest = next(output for output in verified.outputs if output.name == MANIFEST)
    path = _local(place, verified.key_of(MANIFEST))
    mark = LocalFile(f"{prefix}{MANIFEST}", path, manifest.size, manifest.sha256)
    return Group("version", prefix, _VersionFiles(place, prefix), mark)


def _archive(
    place: Place, where: BackupPlace, download: Receipt, ref: ArchiveRef
) -> tuple[LocalFile, ArchiveMark]:
    digests, source = download.facts["digests"][ref.name], download.facts["sources"][ref.name]
    path = Path(ref.location)
    if not path.is_absolute():
        path = _local(place, ref.location)
    file = LocalFile(where.archive(ref.name, digests["sha256"]), path, ref.size, digests["sha256"])
    return file, ArchiveMark(ref.name, ref.size, digests, ref.kind, source)


def _index(place: Place, where: BackupPlace) -> Group:
    receipt = place.done["untar"]
    prefix = f"{where.index(receipt.stage_digest)}/"
    files = [
        LocalFile(f"{prefix}{item.name}", _local(place, receipt.key_of(item.name)), item.size,
                  item.sha256)
        for item in sorted(receipt.outputs, key=attrgetter("name"))
    ]  # fmt: skip
    path = _local(place, receipt.key_of(INDEX_RECEIPT))
    if not path.is_file():
        raise StageNotDone(f"the receipt of untar is gone: {path}", remedy="Run untar again")
    digest = hash_file(path, "sha256")["sha256"]
    mark = LocalFile(f"{prefix}{INDEX_RECEIPT}", path, path.stat().st_size, digest)
    return Group("index", prefix, files, mark)


def _local(place: Place, key: str) -> Path:
    path = place.build.storage.local_path(key)
    assert path is not None
    return path


def check_there(file: LocalFile) -> None:
    """Refuse to begin without a file that the bucket lacks.

    Raises:
        BackupIncomplete: An archive was let go before it was backed up.
    """
    if not file.path.exists():
        raise BackupIncomplete(
            f"{file.path} is gone, and the backup does not have it",
            remedy="Download it again with --keep-archives after_backup, or back up the dataset "
            "alone",
        )

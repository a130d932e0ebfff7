"""What a backup consists of: a published version, its archives, and their image index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.location import ArchiveRef, archives_of
from imagenet_etl.aws.s3_bucket import LocalFile
from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_marks import ArchiveMark
from imagenet_etl.errors import BackupIncomplete, StageNotDone
from imagenet_etl.files import hash_file
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.records.formats import LOOSE_FORMATS, loose_table
from imagenet_etl.stage import Place
from imagenet_etl.tables import open_parquet

INDEX_RECEIPT = "receipt.json"


@dataclass(frozen=True)
class Contents:
    """What is asked for.

    Attributes:
        place: The dataset's part of the backup.
        version: The published version's files, its manifest last; empty when not asked for.
        archives: Each archive with what its mark is to say.
        index: The image index, its receipt last.
        left_out: Why something that was asked for cannot be backed up, by name.
    """

    place: BackupPlace
    version: tuple[LocalFile, ...] = ()
    archives: tuple[tuple[LocalFile, ArchiveMark], ...] = ()
    index: tuple[LocalFile, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def contents_of(place: Place) -> Contents:
    """Return what the settings ask to be backed up.

    Raises:
        StageNotDone: A stage that is to be backed up has lost its receipt.
    """
    build = place.build
    where = backup_place(build.settings.s3_uri, build.facts.name)
    asked = build.settings.back_up
    version = tuple(_version(place, where)) if "dataset" in asked else ()
    if "archives" not in asked:
        return Contents(where, version)
    download = place.done["download"]
    refs = archives_of(download)
    left_out = {
        name: "a folder is not backed up; pack it first" for name, ref in refs.items()
        if ref.kind == FOLDER
    }  # fmt: skip
    archives = tuple(
        _archive(place, where, download, ref) for name, ref in refs.items() if name not in left_out
    )
    # The index tells where in all of the archives the images are.
    index = tuple(_index(place, where)) if not left_out else ()
    return Contents(where, version, archives, index, left_out)


def _version(place: Place, where: BackupPlace) -> Iterator[LocalFile]:
    verified = place.done["verify"]
    prefix = where.version(verified.facts["version"])
    for output in _outputs(place, verified):
        path = _local(place, verified.key_of(output.name))
        is_mark = output.name == MANIFEST
        yield LocalFile(f"{prefix}/{output.name}", path, output.size, output.sha256, is_mark)


def _outputs(place: Place, verified: Receipt) -> Iterator[Output]:
    """Yield every file of the version, the manifest last."""
    yield from (output for output in verified.outputs if output.name != MANIFEST)
    for loose in sorted(LOOSE_FORMATS & set(place.build.settings.outputs)):
        with open_parquet(place.build.storage, verified.key_of(loose_table(loose))) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    yield Output(f"{loose}/{row['name']}", row["size"], row["sha256"])
    yield next(output for output in verified.outputs if output.name == MANIFEST)


def _archive(
    place: Place, where: BackupPlace, download: Receipt, ref: ArchiveRef
) -> tuple[LocalFile, ArchiveMark]:
    digests, source = download.facts["digests"][ref.name], download.facts["sources"][ref.name]
    path = Path(ref.location)
    if not path.is_absolute():
        path = _local(place, ref.location)
    file = LocalFile(where.archive(ref.name, digests["sha256"]), path, ref.size, digests["sha256"])
    return file, ArchiveMark(ref.name, ref.size, digests, ref.kind, source)


def _index(place: Place, where: BackupPlace) -> Iterator[LocalFile]:
    receipt = place.done["untar"]
    prefix = where.index(receipt.stage_digest)
    for output in receipt.outputs:
        path = _local(place, receipt.key_of(output.name))
        yield LocalFile(f"{prefix}/{output.name}", path, output.size, output.sha256)
    path = _local(place, receipt.key_of(INDEX_RECEIPT))
    if not path.is_file():
        raise StageNotDone(f"the receipt of untar is gone: {path}", remedy="Run untar again")
    digest = hash_file(path, "sha256")["sha256"]
    yield LocalFile(f"{prefix}/{INDEX_RECEIPT}", path, path.stat().st_size, digest, is_mark=True)


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

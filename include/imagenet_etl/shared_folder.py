"""The mark of a data folder that several machines share: whoever sees it sees the folder.

A worker without the mount has an empty folder, or none, in its place, and would fill its own disk.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagenet_etl.errors import ConfigError, KeyExists, StorageError
from imagenet_etl.files import (
    check_schema,
    make_folders,
    pretty_json,
    publish_file,
    typed_os_errors,
)
from imagenet_etl.storage import LocalStorage, Storage

MARK = ".imagenet-etl.json"
"""The mark's name in the data folder."""

FOLDER_SCHEMA = 1


@dataclass(frozen=True)
class FolderMark:
    """What the mark says.

    Attributes:
        id: Tells one marked folder from another, wherever they are mounted.
        made_by: The host where it was made.
        at: When, as an ISO 8601 time in UTC.
    """

    id: str
    made_by: str
    at: str


def share_folder(folder: Path | str) -> tuple[FolderMark, bool]:
    """Mark a data folder as the one to share, making it if need be; what is there stays.

    Returns:
        The mark, and whether this call has made it.

    Raises:
        ConfigError: It is a URL: a bucket needs no mark.
        StorageError: The folder cannot be written, or its mark cannot be read.
    """
    if "://" in str(folder):
        raise ConfigError(
            f"{folder} is no folder",
            expected="a folder that all workers mount",
            remedy="A data folder in a bucket needs no mark",
        )
    storage = LocalStorage(Path(folder).expanduser())
    is_new = storage.stat(MARK) is None and _create(storage.root)
    mark = read_mark(storage)
    if mark is None:
        raise StorageError(
            f"{storage.url}/{MARK} was taken away in this moment", remedy="Run the command again"
        )
    return mark, is_new


def _create(folder: Path) -> bool:
    """Make the mark in one step; return False when somebody else just has.

    Whoever makes it may be another user than the workers, who have to read it, and to make all
    other folders themselves: nothing but the mark is left.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    fields = {"id": uuid.uuid4().hex, "made_by": socket.gethostname(), "at": now}
    staged = folder / f"{MARK}.{fields['id']}"
    with typed_os_errors(str(folder)):
        make_folders(folder)
        try:
            staged.write_bytes(pretty_json({"schema_version": FOLDER_SCHEMA} | fields))
            staged.chmod(0o644)
            publish_file(staged, folder / MARK)
        except KeyExists:
            return False
        finally:
            staged.unlink(missing_ok=True)
    return True


def read_mark(storage: Storage) -> FolderMark | None:
    """Return a data folder's mark, or None when it has none.

    Raises:
        StorageError: It cannot be read.
        SchemaTooNew: A newer version has made it.
    """
    data = storage.read(MARK)
    if data is None:
        return None
    try:
        fields = json.loads(data)
        check_schema(MARK, fields["schema_version"], FOLDER_SCHEMA)  # a newer one has other fields
        return FolderMark(str(fields["id"]), str(fields["made_by"]), str(fields["at"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{storage.url}/{MARK} is damaged",
            expected="what share-folder writes",
            found=error,
            remedy="Remove that file, and mark the folder again by python -m imagenet_etl "
            "share-folder",
        ) from error


def check_shared(storage: Storage) -> FolderMark:
    """Return the mark of a data folder on disk that this machine has to share with others.

    Raises:
        StorageError: There is none, so this may be another folder than the other workers'.
    """
    mark = read_mark(storage)
    if mark is None:
        raise StorageError(
            f"worker {socket.gethostname()} does not see the data folder {storage.url}",
            expected=f"the mark {MARK} in it",
            found=_what_is_there(Path(storage.url)),
            remedy=f"Mount it on that worker; or, if it is new, mark it once by python -m "
            f"imagenet_etl share-folder {storage.url}; or use a data folder in a bucket "
            "(s3://BUCKET/PREFIX)",
        )
    return mark


def _what_is_there(folder: Path) -> str:
    try:
        with os.scandir(folder) as entries:
            return "a folder without it" if any(entries) else "an empty folder"
    except FileNotFoundError:
        return "no such folder"
    except OSError as error:
        return error.strerror or str(error)

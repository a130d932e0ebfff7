"""The manifest of an adopted tree: what lies in it, by digest, and nothing of how it was made.

::

    datasets/<name>/<version>/
      adopted.json     counts, size, layout, the digest over all files
      files.parquet    a row a file: path, size, sha256
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass

from imagenet_etl.files import pretty_json
from imagenet_etl.storage import Storage

ADOPTED = "adopted.json"
FILES = "files.parquet"
ADOPTED_SCHEMA = 1


@dataclass(frozen=True)
class AdoptedManifest:
    """The content of ``adopted.json``; the same for the same tree, wherever it lies.

    Attributes:
        layout: ``split/class/image`` or ``class/image``.
        counts: Files and images in all, images by split, classes, and images that lie in a split's
            folder without a class as ``unlabelled``.
        size: Bytes of all files.
        tree_sha256: SHA-256 over a line of canonical JSON ``[path, size, sha256]`` for each file,
            in the order of the paths' parts.
    """

    layout: str
    counts: dict[str, int]
    size: int
    tree_sha256: str

    def to_json(self) -> bytes:
        """Encode for people and for later versions of this package."""
        return pretty_json({"schema_version": ADOPTED_SCHEMA} | asdict(self))


def remove_manifest(storage: Storage, folder: str) -> bool:
    """Remove the manifest of an adopted tree, its mark first, and its folder if that is empty then.

    Nothing else there is touched: earlier releases adopted trees that lie in that very folder.

    Args:
        storage: The data folder.
        folder: The key of the folder that the manifest is kept in.

    Returns:
        Whether other files lie there.
    """
    for name in (ADOPTED, FILES):
        storage.remove(f"{folder}/{name}")
    if (path := storage.local_path(folder)) is not None:
        with suppress(OSError):  # not empty, not there, or a link
            path.rmdir()
    return next(iter(storage.list(folder)), None) is not None

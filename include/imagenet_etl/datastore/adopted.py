"""The manifest of an adopted tree: what lies in it, by digest, and nothing of how it was made.

::

    datasets/<name>/<version>/
      adopted.json     counts, size, layout, the digest over all files
      files.parquet    a row a file: path, size, sha256
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from imagenet_etl.files import pretty_json

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

"""Adopt a tree of class folders as it stands: nothing in it is changed, copied or moved."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from imagenet_etl.datastore.adopted import FILES, AdoptedManifest
from imagenet_etl.datastore.walk import IMAGE_SUFFIXES, files_of
from imagenet_etl.errors import SourceNotFound, UnexpectedMember
from imagenet_etl.files import canonical_json
from imagenet_etl.processes import cores
from imagenet_etl.progress import Meter, metered
from imagenet_etl.streams import size_and_sha256
from imagenet_etl.tables import batched, versioned, write_batches

_AHEAD = 64
_SCHEMA = versioned([("path", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])
_IN_CLASS, _IN_SPLIT = 2, 3
WITH_SPLITS, WITHOUT_SPLITS = "split/class/image", "class/image"

Row = tuple[str, int, str]


def read_tree(root: Path, scratch: Path) -> AdoptedManifest:
    """Hash every file of a tree and write ``files.parquet``.

    Files are hashed by a thread a core, a few dozen ahead of the one that is being written down, so
    memory does not grow with the tree; of each class only the name is kept.

    Args:
        root: What ``resolved_tree`` gave.
        scratch: An existing folder for ``files.parquet``.

    Raises:
        SourceNotFound: There is no image in it.
        UnexpectedMember: An image lies where no class folder is.
        UnsafeMember: A link leads out of it, or something is no regular file.
        OSError: Something cannot be read.
    """
    seen = _Seen(root)
    with metered("register", 0, "files") as meter:
        rows = seen.noted(_hashed(root, meter))
        write_batches(scratch / FILES, _SCHEMA, batched(rows, _SCHEMA))
    return seen.manifest()


def _hashed(root: Path, meter: Meter) -> Iterator[Row]:
    """Yield the files with sizes and digests, in order, hashing some ahead."""
    pending: deque[tuple[str, Future[tuple[int, str]]]] = deque()
    with ThreadPoolExecutor(cores()) as threads:
        try:
            for path, place in files_of(root):
                pending.append((path, threads.submit(size_and_sha256, place)))
                if len(pending) > _AHEAD:
                    yield _settled(pending, meter)
            while pending:
                yield _settled(pending, meter)
        finally:
            for _, hashing in pending:
                hashing.cancel()


def _settled(pending: deque[tuple[str, Future[tuple[int, str]]]], meter: Meter) -> Row:
    path, hashing = pending.popleft()
    size, sha256 = hashing.result()
    meter.add(1, size)
    return path, size, sha256


@dataclass
class _Seen:
    """What was counted on the way through a tree."""

    root: Path
    files: int = 0
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    images: Counter[str] = field(default_factory=Counter)  # by split, where there are splits
    loose: int = 0  # in a folder at the top
    classes: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)  # at the top, with images right in them

    def noted(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield the rows again, counting them."""
        for row in rows:
            path, size, _ = row
            self.files += 1
            self.size += size
            self.digest.update(canonical_json(row) + b"\n")
            if path.lower().endswith(IMAGE_SUFFIXES):
                self._note_image(path.split("/"))
            yield row

    def _note_image(self, parts: list[str]) -> None:
        if len(parts) == _IN_SPLIT:
            self.images[parts[0]] += 1
            self.classes.add(parts[1])
        elif len(parts) == _IN_CLASS:
            self.loose += 1
            self.folders.add(parts[0])
        else:
            raise UnexpectedMember(
                f"{self.root} is no tree of class folders",
                expected=f"{WITH_SPLITS} or {WITHOUT_SPLITS}",
                found="/".join(parts),
                remedy="Give the folder that holds the class folders, or those of the splits",
            )

    def manifest(self) -> AdoptedManifest:
        if not self.images and not self.loose:
            raise SourceNotFound(
                f"{self.root} holds no image",
                found=f"{self.files:,} other files",
                remedy="Give the folder that holds the class folders",
            )
        images = self.images.total() or self.loose
        counts = {"files": self.files, "images": images, **dict(sorted(self.images.items()))}
        counts["classes"] = len(self.classes or self.folders)
        # Beside splits with classes, a folder of images alone is a test set without labels.
        if self.images and self.loose:
            counts["unlabelled"] = self.loose
        return AdoptedManifest(
            layout=WITH_SPLITS if self.images else WITHOUT_SPLITS,
            counts=counts,
            size=self.size,
            tree_sha256=self.digest.hexdigest(),
        )

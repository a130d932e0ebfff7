"""The folder that is checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from imagenet_etl.errors import DatasetDamaged
from imagenet_etl.records.shard import text_lines
from imagenet_etl.storage import ReadAt, Storage


@dataclass(frozen=True)
class Tree:
    """A dataset version's folder: published, or still in a pack stage's folder."""

    storage: Storage
    base: str

    def key(self, name: str) -> str:
        """Return the storage key of one of its files."""
        return f"{self.base}/{name}"

    def damaged(self, name: str, expected: object = "", found: object = "") -> DatasetDamaged:
        """Return the error that names one of its files."""
        return DatasetDamaged(
            f"{self.storage.url}/{self.key(name)} is damaged",
            expected=expected,
            found=found,
            remedy="Restore it from the backup, or remove the version and build it again",
        )

    @contextmanager
    def opened(self, name: str, size: int) -> Iterator[ReadAt]:
        """Open a file that must be there and have this size in bytes.

        Raises:
            DatasetDamaged: It is missing or has another size.
        """
        try:
            with self.storage.open(self.key(name)) as opened:
                if opened.stat.size != size:
                    raise self.damaged(name, f"{size:,} bytes", f"{opened.stat.size:,} bytes")
                yield opened
        except FileNotFoundError:
            raise self.damaged(name, "a file", "nothing") from None

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a text file that must be there.

        Raises:
            DatasetDamaged: It is missing.
        """
        try:
            with self.storage.open(self.key(name)) as opened:
                yield from text_lines(opened.blocks())
        except FileNotFoundError:
            raise self.damaged(name, "a file", "nothing") from None

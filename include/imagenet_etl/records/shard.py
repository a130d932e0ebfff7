"""What formats of many records a file have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import ClassVar, Self

from imagenet_etl.errors import RecordError
from imagenet_etl.records.base import Placed, Record, Written
from imagenet_etl.streams import HashedFile, read_blocks


class ShardWriter(ABC):
    """Writes ``<name><suffix>`` for each of ``suffixes`` below a folder; the first holds the data.

    Args:
        folder: Made when missing.
        name: Base name of the files.
    """

    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._files: list[HashedFile] = []
        self._committed = False

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for suffix in self.suffixes:
                path = self._folder / f"{self._name}{suffix}"
                self._files.append(HashedFile(path, large=suffix == self.suffixes[0]))
        except BaseException:  # a stop may come at any point
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._committed:
            self._discard()

    def _discard(self) -> None:
        for file in self._files:
            file.discard()
        # Other shards may be written beside this one.
        with suppress(OSError):
            self._folder.rmdir()

    @abstractmethod
    def write(self, record: Record) -> Placed:
        """Append a record."""

    def commit(self) -> list[Written]:
        """Finish the files and return them."""
        written = [file.close() for file in self._files]
        self._committed = True
        return written


class JoiningWriter(ShardWriter):
    """Writes shards that can also be made of other shards, one after the other."""

    @abstractmethod
    def join(self, part: Sequence[Path]) -> int:
        """Append another shard's files, given in the order of ``suffixes``.

        Returns:
            The byte at which its first record now starts.

        Raises:
            RecordError: Its files are damaged.
        """

    def _copy(self, source: Path, *, end: bytes = b"") -> int:
        """Append a file to the data without ``end``, its last bytes; return where it starts.

        Raises:
            RecordError: It ends in another way, or was cut off.
        """
        data = self._files[0]
        start, size, tail = data.size, source.stat().st_size, b""
        left = size - len(end)
        with closing(read_blocks(source)) as blocks:
            for block in blocks:
                data.write(block[: max(0, left)])
                left -= len(block)
                tail = (tail + bytes(block[-len(end) :]))[-len(end) :] if end else b""
        if left != -len(end) or tail != end:
            raise RecordError(f"{source} is cut off or damaged", expected=f"{size:,} whole bytes")
        return start


def concatenate(
    writer: type[JoiningWriter], parts: Sequence[Sequence[Path]], folder: Path, name: str
) -> tuple[list[Written], list[int]]:
    """Join the segments of a shard, each given as its files in the order of their suffixes.

    Returns:
        The joined files, and the byte at which each segment starts in the first of them.
    """
    with writer(folder, name) as joined:
        starts = [joined.join(part) for part in parts]
        return joined.commit(), starts


def text_lines(blocks: Iterable[bytes | memoryview]) -> Iterator[str]:
    """Yield the lines, without their ends, of a text that comes in pieces."""
    rest = b""
    for block in blocks:
        *lines, rest = (rest + bytes(block)).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace")

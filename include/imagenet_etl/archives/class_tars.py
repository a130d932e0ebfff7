"""Tars inside an archive or in a folder: what they are, and several of them walked at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pyarrow as pa

from imagenet_etl.archives.tar_blocks import Headers
from imagenet_etl.archives.tar_header import header_name
from imagenet_etl.archives.tar_walk import TarWalk
from imagenet_etl.errors import BadArchive
from imagenet_etl.storage import ReadAt

WALKERS = 8
"""How many class tars are walked at once: each header of a large one costs a disk's latency."""
WALKERS_BY_REQUEST = 64
"""How many are walked at once in a bucket: one request each under way, of at most 4 MiB."""


@dataclass(frozen=True)
class ClassTar:
    """A class tar, as it stands in the listing of what holds it.

    Attributes:
        name: Its name there, ending in ``.tar``.
        offset: Where its content starts in the archive, in bytes; 0 for a file of a folder.
        size: How many bytes it has.
        check: What tells later that it is still the same; see ``Member``.
    """

    name: str
    offset: int
    size: int
    check: int


def tars_of(members: pa.Table) -> Iterator[ClassTar]:
    """Yield the class tars that rows after ``listing.MEMBERS`` describe."""
    for batch in members.to_batches():
        for row in batch.to_pylist():
            yield ClassTar(row["member"], row["offset"], row["size"], row["check"])


@dataclass(frozen=True)
class Span:
    """An open file and the part of it that is one tar.

    Attributes:
        file: The open file.
        start: Where the tar starts, in bytes.
        end: Where it ends.
        stamp: What stands above the CRC-32 in the ``check`` of its members.
    """

    file: ReadAt
    start: int
    end: int
    stamp: int = 0


Opening = Callable[[ClassTar], AbstractContextManager[Span]]
"""Opens one class tar of an archive."""

Walk = Iterator[tuple[Headers, int]]
"""Headers of one class tar, some thousand at a time, with its stamp."""


def walks(
    tars: Iterable[ClassTar], opening: Opening, archive: str, at_once: int = WALKERS
) -> Generator[tuple[ClassTar, Walk], None, None]:
    """Yield each class tar with a walk through it; threads begin the next ones meanwhile.

    Each has at most its first batch of headers in memory before its turn: about 5 MiB, and up to
    38 MiB where every name is as long as any may be; of 1,300 images it is 1 MiB. To that comes
    the window of those that have not come to their end, in a bucket at most 256 MiB of all. What
    goes wrong with a class tar is raised by its own walk, so the first trouble is told first.

    Args:
        tars: The class tars.
        opening: Opens one of them.
        archive: The archive's name, for errors.
        at_once: How many are begun.
    """
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="class-tar")
    ahead: deque[tuple[ClassTar, Walk]] = deque()
    try:
        for tar in tars:
            walk = _walk(tar, opening, archive)
            ahead.append((tar, _begun(pool.submit(next, walk), walk)))
            if len(ahead) > at_once:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _begun(first: Future[tuple[Headers, int]], walk: Walk) -> Walk:
    yield first.result()
    yield from walk


def _walk(tar: ClassTar, opening: Opening, archive: str) -> Walk:
    """Yield a class tar's headers.

    Raises:
        BadArchive: It is damaged, truncated, or holds no file.
    """
    place = f"{archive}: {tar.name}"
    empty = True
    with opening(tar) as span:
        for headers in TarWalk(span.file, place, span.start, span.end).headers():
            empty = empty and all(_is_folder(headers, row) for row in range(len(headers)))
            yield headers, span.stamp
        if empty:
            # Without it the class would be gone, and the labels of those after it would shift.
            raise BadArchive(
                f"{place} holds no file",
                found=f"a tar of {tar.size:,} bytes from byte {tar.offset} on",
                remedy="Get the archive anew from its publisher",
            )


def _is_folder(headers: Headers, row: int) -> bool:
    """Return whether it is a folder as old archives hold them: an empty file ``x/``."""
    name = headers.names.get(row) or header_name(headers.blocks[row])
    return name.endswith(b"/")

"""Digests of a download, and one pass over it that proves each piece where they need one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

from imagenet_etl.download.pieces import Pieces
from imagenet_etl.errors import BadArchive

ALGORITHMS = ("md5", "sha256")
_BLOCK_BYTES = 8 << 20


class Digests:
    """Digests of a file, taken while it is written if that is in one go and in order.

    Attributes:
        at: Up to which byte they were taken.
    """

    def __init__(self, algorithms: Sequence[str] = ALGORITHMS) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
        self.at = 0

    def wrote(self, at: int, block: memoryview) -> None:
        """Take what was written if it is what comes next."""
        if at == self.at:
            for state in self._hashes.values():
                state.update(block)
            self.at += len(block)

    def read_back(
        self, fd: int, size: int, pieces: Pieces, read: Callable[[int], None]
    ) -> list[int]:
        """Take all of a file instead; return the pieces that are not what was written."""
        changed = changed_pieces(fd, size, pieces, list(self._hashes.values()), read)
        self.at = size
        return changed

    def of(self, algorithms: Sequence[str]) -> dict[str, str]:
        """Return some of them."""
        return {name: self._hashes[name].hexdigest() for name in algorithms}


def changed_on_disk(path: Path, changed: Sequence[int]) -> BadArchive:
    """Return the error that tells of pieces that are not what was written."""
    return BadArchive(
        f"{path}: piece {changed[0]} changed on disk after it was written",
        found=f"{len(changed):,} such pieces",
        remedy="Check the disk's health, then run again: it fetches these pieces anew",
    )


def changed_pieces(
    fd: int,
    size: int,
    pieces: Pieces,
    hashes: Sequence[hashlib._Hash],
    read: Callable[[int], None],
) -> list[int]:
    """Hash the first ``size`` bytes; return the pieces that are not what was written.

    Each hash has a thread of its own, while the next block is read: hashing does not hold Python's
    lock, so the slowest hash decides the speed. Memory is two blocks of 8 MiB.

    Args:
        fd: The file, open for reading.
        size: Its length in bytes.
        pieces: Its pieces, with their digests as far as they are known.
        hashes: Updated with the whole content.
        read: Called with the number of bytes, after each block.
    """
    buffers = cycle((bytearray(_BLOCK_BYTES), bytearray(_BLOCK_BYTES)))
    running: list[Future[None]] = []
    changed: list[int] = []
    ended: tuple[int, hashlib._Hash] | None = None
    piece = hashlib.sha256()
    with ThreadPoolExecutor(len(hashes) + 1) as pool:
        for number, start, end, is_last in _blocks(size, pieces):
            block = memoryview(next(buffers))[: end - start]
            count = os.preadv(fd, [block], start)
            for update in running:
                update.result()
            changed += _unproven(pieces, ended)
            running = [pool.submit(state.update, block[:count]) for state in (*hashes, piece)]
            read(count)
            ended = (number, piece) if is_last else None
            piece = hashlib.sha256() if is_last else piece
    changed += _unproven(pieces, ended)
    if not changed and os.fstat(fd).st_size < size:
        changed = [size // pieces.piece_bytes]
    return changed


def _blocks(size: int, pieces: Pieces) -> Iterator[tuple[int, int, int, bool]]:
    """Yield number of the piece, start and end of each block, and whether it ends the piece."""
    for number, at in enumerate(range(0, size, pieces.piece_bytes)):
        end = min(at + pieces.piece_bytes, size)
        for start in range(at, end, _BLOCK_BYTES):
            stop = min(start + _BLOCK_BYTES, end)
            yield number, start, stop, stop == end


def _unproven(pieces: Pieces, ended: tuple[int, hashlib._Hash] | None) -> list[int]:
    """Return the piece that was read to its end, if it is not what was written."""
    if ended is None:
        return []
    number, found = ended
    # The tail of a file whose length nobody told has no digest.
    proven = pieces.proven.get(number, found.hexdigest())
    return [] if found.hexdigest() == proven else [number]

"""One pass over a complete download: digests of the whole, and the proof of each piece."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle

from imagenet_etl.download.pieces import Pieces

_BLOCK_BYTES = 8 << 20


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

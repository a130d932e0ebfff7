"""Digests of an object in a bucket, in one read of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.storage import ReadAt


def hashed(
    file: ReadAt, what: str, algorithms: Sequence[str], read: Callable[[int], None]
) -> dict[str, str]:
    """Return hex digests of an object, by algorithm.

    Each hash has a thread of its own: hashing does not hold Python's lock, so the slowest decides
    the speed. What is read ahead is the storage's affair, and so is memory.

    Args:
        file: The open object, whose reads are pinned to what it was when it was opened.
        what: Its name, for errors.
        algorithms: Which of ``md5`` and ``sha256``.
        read: Told the number of bytes, block by block; may raise to end it.

    Raises:
        ArchiveChanged: It was replaced while it was read.
    """
    hashes = [hashlib.new(name, usedforsecurity=False) for name in algorithms]
    count = 0
    with ThreadPoolExecutor(len(hashes)) as pool:
        for block in file.blocks():
            running = [pool.submit(state.update, block) for state in hashes]
            for update in running:  # the block is gone with the next one
                update.result()
            count += len(block)
            read(len(block))
    if count != file.stat.size or file.current_stat() != file.stat:
        raise ArchiveChanged(
            f"{what} was replaced while it was verified",
            expected=f"{file.stat.size:,} bytes, ETag {file.stat.tag}",
            remedy="Run again when it is at rest",
        )
    return {name: state.hexdigest() for name, state in zip(algorithms, hashes, strict=True)}

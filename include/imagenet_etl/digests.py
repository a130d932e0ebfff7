"""Digests of stored objects."""

from __future__ import annotations

import hashlib

from imagenet_etl.storage import ReadAt

_BLOCK_BYTES = 4 << 20


def digest_object(file: ReadAt) -> str:
    """Return the SHA-256 hex digest of an open object, read in blocks of 4 MiB."""
    state = hashlib.sha256()
    at = 0
    while block := file.read_at(at, _BLOCK_BYTES):
        state.update(block)
        at += len(block)
    return state.hexdigest()

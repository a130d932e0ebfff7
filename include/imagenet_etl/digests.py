"""Digests of stored objects."""

from __future__ import annotations

import hashlib

from imagenet_etl.storage import ReadAt


def digest_object(file: ReadAt) -> str:
    """Return the SHA-256 hex digest of an open object."""
    state = hashlib.sha256()
    for block in file.blocks():
        state.update(block)
    return state.hexdigest()

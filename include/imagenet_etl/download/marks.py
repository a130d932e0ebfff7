"""Telling URLs apart by query values that may be secret and so are written nowhere."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from urllib.parse import urlsplit

from imagenet_etl.download.urls import mask_url
from imagenet_etl.storage import Storage

_SALT_BYTES = 32


def mark_of(storage: Storage, folder: str, source: str) -> str:
    """Return 12 hex digits for a URL with its query values; nothing for one without a query.

    User and password are no part of it. It means something only in this data folder.

    Args:
        storage: The data folder.
        folder: Key of the folder that holds the dataset's archives, and the salt.
        source: The URL.
    """
    query = urlsplit(source).query
    if not query:
        return ""
    return _stretched(_salt(storage, f"{folder}/source-salt"), f"{mask_url(source)} {query}")


# A plain digest, or one keyed by what a receipt tells, would give a short key away to whoever tries
# them all. The salt never leaves the data folder, so a mark that does, in a log or a copied
# receipt, is worth nothing; whoever reads the folder itself pays for scrypt at each guess.
@lru_cache(maxsize=64)
def _stretched(salt: bytes, text: str) -> str:
    return hashlib.scrypt(text.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=6).hex()


def _salt(storage: Storage, key: str) -> bytes:
    """Return the data folder's own salt, made by whoever is first to ask for it."""
    salt = storage.read(key)
    if salt is None:
        storage.create(key, secrets.token_hex(_SALT_BYTES).encode())
        salt = storage.read(key)
    return salt or b""

"""Where one file lies inside an archive, and which names a file may have."""

from __future__ import annotations

from dataclasses import dataclass

from imagenet_etl.errors import UnsafeMember

STORED, DEFLATED = 0, 8
LARGEST = 1 << 60
"""No member of any archive is larger; more would not fit the tables' 64 bits with an offset."""


@dataclass(frozen=True)
class Member:
    """A regular file inside an archive.

    Attributes:
        name: Its name in the archive, ``/`` between folders.
        header_offset: Where its header starts, in bytes from the archive's start.
        offset: Where its stored bytes start.
        stored_size: How many bytes are stored.
        size: How many bytes the file has.
        method: ``STORED`` or ``DEFLATED``.
        check: What tells later that it is still the same: the CRC-32 of its content in a zip, that
            of the header block before its data in a tar, its mtime in ns in a folder. In a tar that
            lies in a folder, 31 bits made of that tar's size and mtime stand above the CRC-32, that
            is from bit 32 on.
    """

    name: str
    header_offset: int
    offset: int
    stored_size: int
    size: int
    method: int = STORED
    check: int = -1


def safe_name(raw: bytes, place: str, encoding: str = "utf-8") -> str:
    """Return a file's name as text.

    Raises:
        UnsafeMember: It is no text, climbs out of the archive, could be taken for another name by
            some system, or would spoil a log.
    """
    try:
        name = raw.decode(encoding)
    except UnicodeDecodeError:
        raise UnsafeMember(f"{place}: a member's name is not text", found=repr(raw)) from None
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or {"", ".", ".."} & set(parts) or ":" in parts[0]:
        raise UnsafeMember(f"{place}: a member's name is unsafe", found=repr(name))
    return name

"""One tar header at a time: its numbers, its checks, and what extended headers add to it.

Sources: POSIX.1-2017, pax (ustar header, extended header records); GNU tar manual, "Basic Tar
Format" (magic, long names, base-256 numbers, sparse files).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from imagenet_etl.archives.member import LARGEST
from imagenet_etl.errors import BadArchive, UnsafeMember

BLOCK = 512
ZEROS = bytes(BLOCK)
SIZE_FIELD = slice(124, 136)
FITS_OCTAL = 8 << 30
_SUM_FIELD = slice(148, 156)
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_MAX_NAME = 4096
_MAX_RECORDS = 1 << 16
_COMPRESSED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress", b"LZIP": "lzip",
}  # fmt: skip
_IRREGULAR = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device",
    b"4": "a block device", b"6": "a fifo", b"S": "a sparse file",
    b"M": "a part of a multi-volume archive", b"V": "a volume label",
}  # fmt: skip
_AGAIN = "It is damaged: get it again"


def compression_of(head: bytes) -> str:
    """Return which compression a file begins with, empty for none that is known."""
    return next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), "")


def compressed(what: str, kind: str) -> BadArchive:
    """Return the error about a compressed archive."""
    return BadArchive(
        f"{what} is compressed ({kind}) and cannot be read in place",
        remedy="Decompress it first, and give the tar",
    )


def number(field: bytes) -> int | None:
    """Return a header's number, octal or GNU's base-256; None when it is neither."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else (
            int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        )  # fmt: skip
    match = _OCTAL.fullmatch(field)
    return int(match[1], 8) if match else None


def check_header(block: bytes, place: str, at: int) -> None:
    """Make sure that a block is an undamaged tar header.

    Raises:
        BadArchive: It is not.
    """
    if block[257:262] != b"ustar" and block[257:265] != bytes(8):
        kind = compression_of(block)
        if kind:
            raise compressed(place, kind)
        raise BadArchive(
            f"{place}: there is no tar header at byte {at}", found=repr(block[:16]), remedy=_AGAIN
        )
    actual = sum(block) - sum(block[_SUM_FIELD]) + 8 * ord(" ")
    if number(block[_SUM_FIELD]) != actual:
        raise BadArchive(
            f"{place}: the header at byte {at} is damaged",
            expected=f"checksum {actual:o}",
            found=repr(block[_SUM_FIELD]),
            remedy=_AGAIN,
        )


def size_of(block: bytes, place: str, at: int) -> int:
    """Return the size that a header declares.

    Raises:
        BadArchive: It is no number, or a negative one.
        UnsafeMember: No file is that large.
    """
    size = number(block[SIZE_FIELD])
    if size is None or size < 0:
        raise BadArchive(
            f"{place}: the header at byte {at} has no valid size",
            found=repr(block[SIZE_FIELD]) if size is None else f"{size} bytes",
            remedy=_AGAIN,
        )
    if size > LARGEST:
        raise UnsafeMember(
            f"{place}: the member at byte {at} is too large", found=f"{size:,} bytes"
        )
    return size


def header_name(block: bytes) -> bytes:
    """Return the name in a header, with ustar's prefix."""
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def check_kind(block: bytes, place: str, at: int) -> None:
    """Refuse what is neither a regular file nor a folder.

    Raises:
        UnsafeMember: It is a link, device, sparse file or the like.
    """
    kind = block[156:157]
    if kind not in (b"0", b"\0", b"5"):
        raise UnsafeMember(
            f"{place}: {header_name(block).decode('utf-8', 'replace')} is not a regular file",
            found=f"{_IRREGULAR.get(kind, f'type {kind!r}')}, header at byte {at}",
        )


@dataclass(frozen=True)
class Extended:
    """What the headers before a member's own say about it.

    Attributes:
        name: Its name, None where its own header tells.
        size: Its size, None where its own header tells.
    """

    name: bytes | None = None
    size: int | None = None

    def with_long_name(self, data: bytes, place: str, at: int) -> Extended:
        """Return this with the name of a GNU header ``L``."""
        return self._named(data.partition(b"\0")[0], place, at)

    def with_records(self, data: bytes, place: str, at: int) -> Extended:
        """Return this with the records of a PAX header ``x``.

        Raises:
            BadArchive: They break the format.
            UnsafeMember: They describe a sparse file.
        """
        records = _records(data, place, at)
        _refuse(records, ("GNU.sparse.", "SCHILY.realsize"), "a sparse file", place, at)
        found = self
        if "path" in records:
            found = found._named(records["path"], place, at)
        if "size" in records:
            if found.size is not None or not re.fullmatch(rb"[0-9]{1,20}", records["size"]):
                raise _broken(place, at, records["size"])
            found = replace(found, size=min(int(records["size"]), LARGEST))
        return found

    def _named(self, name: bytes, place: str, at: int) -> Extended:
        if self.name is not None:
            raise BadArchive(
                f"{place}: a member is given two long names at byte {at}", remedy=_AGAIN
            )
        if len(name) > _MAX_NAME:
            raise UnsafeMember(f"{place}: a member's name is too long", found=f"byte {at}")
        return replace(self, name=name)

    def size_with(self, declared: int, place: str, at: int) -> int:
        """Return the member's size, given what its own header declares.

        Readers differ in which of two sizes they believe, so two that differ are refused.

        Raises:
            BadArchive: The sizes differ although the header's own field has room for both.
        """
        if self.size is None or self.size == declared:
            return declared
        if self.size < FITS_OCTAL:
            raise BadArchive(
                f"{place}: the member at byte {at} has two sizes",
                found=f"{declared} and {self.size} bytes",
                remedy=_AGAIN,
            )
        return self.size


def max_extension(kind: bytes) -> int:
    """Return how many bytes an extended header of this kind may hold."""
    return _MAX_NAME + 1 if kind in (b"L", b"K") else _MAX_RECORDS


def check_global(data: bytes, place: str, at: int) -> None:
    """Accept a PAX header ``g``, as long as it changes no member's name, size or kind.

    Raises:
        BadArchive: It breaks the format.
        UnsafeMember: It does.
    """
    names = ("path", "size", "linkpath", "GNU.sparse.", "SCHILY.realsize")
    _refuse(_records(data, place, at), names, "a name or size for all members", place, at)


def _records(data: bytes, place: str, at: int) -> dict[str, bytes]:
    """Read records ``length keyword=value`` and a newline; the length counts all of it."""
    records: dict[str, bytes] = {}
    start = 0
    while start < len(data):
        match = re.compile(rb"([0-9]{1,6}) ([^=]+)=").match(data, start)
        end = start + int(match[1]) if match else 0
        if not match or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise _broken(place, at, data[start : start + 40])
        key, value = match[2].decode("utf-8", "replace"), data[match.end() : end - 1]
        if key == "hdrcharset" and value != b"ISO-IR 10646 2000 UTF-8":
            raise UnsafeMember(f"{place}: a member's name is not text", found=f"byte {at}")
        records[key] = value
        start = end
    return records


def _refuse(
    records: dict[str, bytes], keys: tuple[str, ...], what: str, place: str, at: int
) -> None:
    for key in records:
        if key.startswith(keys):
            raise UnsafeMember(
                f"{place}: the extended header at byte {at} describes {what}", found=key
            )


def _broken(place: str, at: int, found: bytes) -> BadArchive:
    return BadArchive(
        f"{place}: the extended header at byte {at} is broken", found=repr(found), remedy=_AGAIN
    )

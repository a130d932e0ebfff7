"""Zip archives, listed from their central directory as a stream and read in place.

Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory),
4.3.14 to 4.3.16 (end records, zip64), 4.5.3 (zip64 extra field), 4.4.4 (flags).
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imagenet_etl.archives.member import DEFLATED, STORED, Member
from imagenet_etl.errors import ArchiveChanged, BadArchive, BadImage, UnsafeMember
from imagenet_etl.storage import ReadAt

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_LOCATOR_MAGIC, _END64_MAGIC = b"PK\6\7", b"PK\6\6"
_MAX_COMMENT = 0xFFFF
_BLOCK = 1 << 20
_ENCRYPTED, _UTF8 = 0x1, 0x800
_UNIX = 3
_FULL32 = 0xFFFFFFFF


@dataclass(frozen=True)
class _Directory:
    offset: int
    size: int
    entries: int


def list_zip(file: ReadAt, archive: str) -> Iterator[Member]:
    """Yield the regular files of a zip in the order of its central directory.

    Args:
        file: The open archive.
        archive: Its name, for errors.

    Raises:
        BadArchive: It is truncated or no zip.
        UnsafeMember: A member is a link or device, is encrypted, or has an unsafe name or method.
    """
    directory = _find_directory(file, archive)
    at, left = directory.offset, directory.entries
    end = directory.offset + directory.size
    block, start = b"", at
    while left:
        # An entry is at most 46 bytes and three fields of 64 KiB.
        if at + _CENTRAL.size + 3 * _MAX_COMMENT > start + len(block) and start + len(block) < end:
            block, start = file.read_at(at, min(_BLOCK, end - at)), at
        member, length = _parse_entry(block, at - start, archive)
        at, left = at + length, left - 1
        if member is not None:
            yield _located(file, member, archive)
    if at != end:
        raise BadArchive(f"{archive}: its directory ends at byte {at}", expected=f"byte {end}")


def _find_directory(file: ReadAt, archive: str) -> _Directory:
    size = file.stat.size
    tail_size = min(size, _MAX_COMMENT + _END.size + _END64_LOCATOR.size)
    tail = file.read_at(size - tail_size, tail_size)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or at + _END.size > len(tail):
        raise BadArchive(
            f"{archive} has no zip end record",
            found=f"{size:,} bytes",
            remedy="It is truncated or no zip: download it again",
        )
    fields = _END.unpack_from(tail, at)
    directory = _Directory(offset=fields[6], size=fields[5], entries=fields[4])
    locator = at - _END64_LOCATOR.size
    if locator >= 0 and tail[locator : locator + 4] == _LOCATOR_MAGIC:
        position = _END64_LOCATOR.unpack_from(tail, locator)[2]
        record = file.read_at(position, _END64.size)
        if record[:4] != _END64_MAGIC or len(record) < _END64.size:
            raise BadArchive(f"{archive}: its zip64 end record is broken")
        fields = _END64.unpack(record)
        directory = _Directory(offset=fields[9], size=fields[8], entries=fields[7])
    if directory.offset + directory.size > size:
        raise BadArchive(
            f"{archive} is truncated",
            expected=f"a directory up to byte {directory.offset + directory.size:,}",
            found=f"{size:,} bytes",
            remedy="Download it again",
        )
    return directory


def _parse_entry(block: bytes, at: int, archive: str) -> tuple[Member | None, int]:
    """Return the member, None for a folder, and the entry's length."""
    if block[at : at + 4] != _CENTRAL_MAGIC or at + _CENTRAL.size > len(block):
        raise BadArchive(f"{archive}: its directory is broken", remedy="Download it again")
    fields = _CENTRAL.unpack_from(block, at)
    made_by, flags, method, crc, stored, size = fields[1], *(fields[i] for i in (3, 4, 7, 8, 9))
    name_size, extra_size, comment_size = fields[10:13]
    name_at = at + _CENTRAL.size
    raw = block[name_at : name_at + name_size]
    extra = block[name_at + name_size : name_at + name_size + extra_size]
    length = _CENTRAL.size + name_size + extra_size + comment_size
    name = _safe_name(raw, flags, archive)
    mode = fields[15] >> 16 if made_by >> 8 == _UNIX else 0
    kind = stat.S_IFMT(mode)
    if name.endswith("/") and kind in (0, stat.S_IFDIR):
        return None, length
    if kind not in (0, stat.S_IFREG):
        raise UnsafeMember(f"{archive}: {name} is not a regular file", found=oct(mode))
    if flags & _ENCRYPTED or method not in (STORED, DEFLATED):
        found = "encryption" if flags & _ENCRYPTED else f"compression method {method}"
        raise UnsafeMember(f"{archive}: {name}", expected="stored or deflated", found=found)
    size, stored, offset = _zip64(extra, [size, stored, fields[16]], archive)
    if method == STORED and size != stored:
        raise BadArchive(f"{archive}: {name} is stored with two sizes", found=f"{size}, {stored}")
    return Member(name, offset, -1, stored, size, method, crc), length


def _safe_name(raw: bytes, flags: int, archive: str) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        raise UnsafeMember(f"{archive}: a member's name is not text", found=repr(raw)) from None
    parts = name.rstrip("/").split("/")
    if not name.isprintable() or "\\" in name or {"", ".", ".."} & set(parts) or ":" in parts[0]:
        raise UnsafeMember(f"{archive}: a member's name is unsafe", found=repr(name))
    return name


def _zip64(extra: bytes, values: list[int], archive: str) -> list[int]:
    """Replace the 32-bit fields that are all ones by those of the zip64 extra field."""
    if _FULL32 not in values:
        return values
    at = 0
    while at + 4 <= len(extra):
        tag, size = struct.unpack_from("<HH", extra, at)
        if tag == 1:
            wanted = [index for index, value in enumerate(values) if value == _FULL32]
            if size < 8 * len(wanted) or at + 4 + size > len(extra):
                break
            wide = struct.unpack_from(f"<{len(wanted)}Q", extra, at + 4)
            for index, value in zip(wanted, wide, strict=True):
                values[index] = value
            return values
        at += 4 + size
    raise BadArchive(f"{archive}: a zip64 field is missing or broken")


def _located(file: ReadAt, member: Member, archive: str) -> Member:
    header = file.read_at(member.header_offset, _LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != _LOCAL_MAGIC:
        raise BadArchive(
            f"{archive}: {member.name} has no header at byte {member.header_offset}",
            remedy="Download it again",
        )
    name_size, extra_size = _LOCAL.unpack(header)[9:11]
    offset = member.header_offset + _LOCAL.size + name_size + extra_size
    if offset + member.stored_size > file.stat.size:
        raise BadArchive(
            f"{archive} is truncated inside {member.name}", found=f"{file.stat.size:,} bytes"
        )
    return Member(
        member.name, member.header_offset, offset, member.stored_size, member.size, member.method,
        member.crc32,
    )  # fmt: skip


def read_zip_member(file: ReadAt, member: Member, archive: str) -> bytes:
    """Read one member with its header in a single read, and check it.

    Raises:
        ArchiveChanged: The header is no longer the one that was indexed.
        BadImage: The content does not unpack to its size and CRC-32.
    """
    head = member.offset - member.header_offset
    raw = file.read_at(member.header_offset, head + member.stored_size)
    name = member.name.encode()
    if raw[:4] != _LOCAL_MAGIC or raw[_LOCAL.size : _LOCAL.size + len(name)] != name:
        raise ArchiveChanged(
            f"{archive}: {member.name} is no longer at byte {member.header_offset}",
            remedy="Run again to index the archive anew",
        )
    data = raw[head:]
    if member.method == DEFLATED:
        try:
            # One byte more than promised is enough to convict a bomb.
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        except zlib.error as error:
            raise BadImage(f"cannot be inflated: {error}") from error
    if len(data) != member.size or zlib.crc32(data) != member.crc32:
        raise BadImage("content does not match the archive's CRC-32")
    return data

"""Zip archives, listed from their central directory as a stream and read in place.

Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory),
4.3.14 to 4.3.16 (end records, zip64), 4.5.3 (zip64 extra field), 4.4.4 (flags).
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from imagenet_etl.archives.member import DEFLATED, LARGEST, STORED, Member, safe_name
from imagenet_etl.archives.zip_heads import LocalHeads, directory_block
from imagenet_etl.errors import ArchiveChanged, BadArchive, BadImage, UnsafeMember
from imagenet_etl.storage import ReadAt

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_LOCATOR_MAGIC, _END64_MAGIC = b"PK\6\7", b"PK\6\6"
_AGAIN = "Download it again"
_MAX_COMMENT = 0xFFFF
_LONGEST_ENTRY = _CENTRAL.size + 3 * 0xFFFF
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # the data, strongly, or the directory
_UTF8 = 0x800
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class _Directory:
    """The central directory.

    Attributes:
        offset: Where it starts in the file.
        end: Where it ends.
        entries: How many entries it has, as far as ``count_mask`` lets its field tell.
        count_mask: The largest count that the field can hold.
        shift: How many foreign bytes lie before the archive; its own offsets do not count them.
    """

    offset: int
    end: int
    entries: int
    count_mask: int
    shift: int


def list_zip(file: ReadAt, archive: str) -> Iterator[Member]:
    """Yield the regular files of a zip in the order of its central directory.

    Args:
        file: The open archive.
        archive: Its name, for errors.

    Raises:
        BadArchive: It is truncated or no zip, or its headers contradict each other.
        UnsafeMember: A member is a link or device, is encrypted, has an unsafe name or method, or
            lies on top of another one.
    """
    directory = _find_directory(file, archive)
    at, end = directory.offset, directory.end
    block, start, block_size = b"", at, directory_block(file)
    heads = LocalHeads(file, directory.offset)
    entries = used = 0
    while at < end:
        if at + _LONGEST_ENTRY > start + len(block) and start + len(block) < end:
            block, start = file.read_at(at, min(block_size, end - at)), at
        member, length = _parse_entry(block, at - start, archive)
        at, entries = at + length, entries + 1
        if member is None:
            continue
        member = _located(heads, member, directory, archive)
        used += member.offset + member.stored_size - member.header_offset
        if used > directory.offset:
            raise _on_top(f"{archive}: {member.name}", directory.offset, used)
        yield member
    # Writers without zip64 let the 16-bit count wrap around beyond 65,535 members.
    if entries & directory.count_mask != directory.entries:
        raise BadArchive(
            f"{archive}: its directory has another number of entries than its end record says",
            expected=directory.entries,
            found=entries,
            remedy=_AGAIN,
        )


def _on_top(what: str, room: int, used: int) -> UnsafeMember:
    """Return the error for a bomb: thousands of members that share the same compressed bytes."""
    return UnsafeMember(
        f"{what} lies on top of another member",
        expected=f"members of at most {room:,} bytes in all",
        found=f"{used:,}",
    )


def is_zip(file: ReadAt) -> bool:
    """Return whether a file ends as a zip does, whatever it begins with."""
    size = min(file.stat.size, _MAX_COMMENT + _END.size)
    return _find_end_record(file.read_at(file.stat.size - size, size)) >= 0


def _find_directory(file: ReadAt, archive: str) -> _Directory:
    size = file.stat.size
    tail_size = min(size, _MAX_COMMENT + _END.size + _END64_LOCATOR.size)
    tail = file.read_at(size - tail_size, tail_size)
    at = _find_end_record(tail)
    if at < 0:
        raise BadArchive(
            f"{archive} has no zip end record at its end",
            found=f"{size:,} bytes",
            remedy="It is truncated or no zip: download it again",
        )
    _, disk, _, _, entries, length, offset, _ = _END.unpack_from(tail, at)
    end, mask = size - tail_size + at, _FULL16
    locator = at - _END64_LOCATOR.size
    if locator >= 0 and tail[locator : locator + 4] == _LOCATOR_MAGIC:
        position = _END64_LOCATOR.unpack_from(tail, locator)[2]
        end, record = _find_end64(file, position, end - _END64_LOCATOR.size, archive)
        (_, _, _, _, disk, _, _, entries, length, offset), mask = _END64.unpack(record), -1
    if disk:
        raise BadArchive(f"{archive} is one part of several", remedy="Join the parts first")
    shift = end - length - offset
    if shift < 0:
        raise BadArchive(
            f"{archive} is truncated",
            expected=f"a directory of {length:,} bytes from byte {offset:,} on",
            found=f"{end:,} bytes before its end record",
            remedy=_AGAIN,
        )
    return _Directory(end - length, end, entries, mask, shift)


def _find_end_record(tail: bytes) -> int:
    """Return where the end record is: the last one whose comment reaches just to the end."""
    at = tail.rfind(_END_MAGIC)
    while at >= 0:
        after = at + _END.size
        if after <= len(tail) and after + _END.unpack_from(tail, at)[7] == len(tail):
            return at
        at = tail.rfind(_END_MAGIC, 0, at + 3)
    return -1


def _find_end64(file: ReadAt, position: int, end: int, archive: str) -> tuple[int, bytes]:
    """Return the zip64 end record that reaches up to its locator at ``end``, and where it is."""
    for at in (position, end - _END64.size):  # the second with foreign bytes before the archive
        if not 0 <= at <= end - _END64.size:
            continue
        record = file.read_at(at, _END64.size)
        if record[:4] == _END64_MAGIC and at + 12 + _END64.unpack(record)[1] == end:
            return at, record
    raise BadArchive(f"{archive}: its zip64 end record is broken", remedy=_AGAIN)


def _parse_entry(block: bytes, at: int, archive: str) -> tuple[Member | None, int]:
    """Return the member, None for a folder, and the entry's length."""
    fields = _CENTRAL.unpack_from(block.ljust(at + _CENTRAL.size, b"\0"), at)
    magic, flags, method, crc, stored, size = (fields[i] for i in (0, 3, 4, 7, 8, 9))
    name_size, extra_size, comment_size = fields[10:13]
    length = _CENTRAL.size + name_size + extra_size + comment_size
    if magic != _CENTRAL_MAGIC or at + length > len(block):
        raise BadArchive(f"{archive}: its directory is broken", remedy=_AGAIN)
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_size
    name, is_folder = _name_of(block[name_at:extra_at], flags, archive)
    # Only Unix writers are meant to give a mode here; whoever gives one is taken at his word.
    mode = fields[15] >> 16
    kind = stat.S_IFMT(mode)
    if is_folder and kind in (0, stat.S_IFDIR):
        return None, length
    if is_folder or kind not in (0, stat.S_IFREG):
        raise UnsafeMember(f"{archive}: {name} is not a regular file", found=f"mode {mode:o}")
    if flags & _ENCRYPTED or method not in (STORED, DEFLATED):
        found = "encryption" if flags & _ENCRYPTED else f"compression method {method}"
        raise UnsafeMember(f"{archive}: {name}", expected="stored or deflated", found=found)
    extra = block[extra_at : extra_at + extra_size]
    size, stored, offset = _zip64(extra, [size, stored, fields[16]], name, archive)
    if max(size, stored) > LARGEST:
        raise UnsafeMember(f"{archive}: {name} is too large", found=f"{max(size, stored):,} bytes")
    if method == STORED and size != stored:
        raise BadArchive(f"{archive}: {name} is stored with two sizes", found=f"{size}, {stored}")
    return Member(name, offset, -1, stored, size, method, crc), length


def _name_of(raw: bytes, flags: int, archive: str) -> tuple[str, bool]:
    """Return a member's name, and whether it ends as that of a folder."""
    is_folder = raw.endswith(b"/")
    encoding = "utf-8" if flags & _UTF8 else "ascii"
    return safe_name(raw.removesuffix(b"/"), archive, encoding), is_folder


def _zip64(extra: bytes, values: list[int], name: str, archive: str) -> list[int]:
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
    raise BadArchive(f"{archive}: the zip64 field of {name} is missing or broken", remedy=_AGAIN)


def _located(heads: LocalHeads, member: Member, directory: _Directory, archive: str) -> Member:
    """Return the member with the place of its data, which only its own header tells."""
    start = member.header_offset + directory.shift
    size = _LOCAL.size + len(member.name.encode())
    # The bound comes first: a zip64 offset may be beyond what a file can be read at.
    header = heads.read(start, size) if start + size <= directory.offset else b""
    if not _is_header_of(header, member):
        raise BadArchive(
            f"{archive}: the header of {member.name} at byte {start} contradicts the directory",
            remedy=_AGAIN,
        )
    offset = start + _head_size(header)
    if offset + member.stored_size > directory.offset:
        raise BadArchive(
            f"{archive} is truncated inside {member.name}",
            expected=f"{member.stored_size:,} bytes from byte {offset:,} on",
            found=f"the directory at byte {directory.offset:,}",
            remedy=_AGAIN,
        )
    return replace(member, header_offset=start, offset=offset)


def _is_header_of(header: bytes, member: Member) -> bool:
    """Return whether a local header, up to its name at least, describes this member."""
    if len(header) < _LOCAL.size:
        return False
    magic, _, flags, method, _, _, crc, _, _, name_size, _ = _LOCAL.unpack_from(header)
    return (
        magic == _LOCAL_MAGIC
        and header[_LOCAL.size : _LOCAL.size + name_size] == member.name.encode()
        and method == member.method
        and not flags & _ENCRYPTED
        # Writers that stream do not know the CRC-32 yet and leave 0.
        and crc in (0, member.check)
    )


def _head_size(header: bytes) -> int:
    name_size, extra_size = _LOCAL.unpack_from(header)[9:11]
    return _LOCAL.size + int(name_size) + int(extra_size)


def read_zip_member(file: ReadAt, member: Member, archive: str) -> bytes:
    """Read one member with its header in a single read, and check it.

    Raises:
        ArchiveChanged: The header is no longer the one that was indexed.
        BadImage: The content does not unpack to its size and CRC-32.
    """
    head = member.offset - member.header_offset
    raw = file.read_at(member.header_offset, head + member.stored_size)
    if not _is_header_of(raw, member) or _head_size(raw) != head:
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
        if len(data) > member.size:
            raise BadImage(f"inflates to more than the {member.size} bytes it declares")
    if len(data) != member.size:
        raise BadImage(f"has {len(data)} bytes in the archive instead of {member.size}")
    if zlib.crc32(data) != member.check:
        raise BadImage("content does not match the archive's CRC-32")
    return data

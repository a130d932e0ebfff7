"""Thousands of tar headers at a time, with NumPy and Arrow: checked, and made a table."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.archives.listing import MEMBERS
from imagenet_etl.archives.member import STORED, safe_name
from imagenet_etl.archives.tar_header import BLOCK, check_header, header_name, size_of

Blocks = npt.NDArray[np.uint8]
# What safe_name has to look at: anything but plain ASCII in plain parts.
_SUSPECT = r"[^ -~]|[\\:]|^/|//|/$|^$|(^|/)\.\.?(/|$)"
_LANES = np.uint64(0x00FF00FF00FF00FF)
_POWERS = 8 ** np.arange(5, -1, -1, dtype=np.int64)


@dataclass
class Headers:
    """Headers of regular files as the walk gathers them.

    Attributes:
        blocks: The header blocks.
        offsets: Where each starts, in bytes from the archive's start.
        sizes: The size of each member's data.
        names: Names by position, where an extended header tells.
        sized: Positions whose size an extended header tells.
    """

    blocks: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    names: dict[int, bytes] = field(default_factory=dict)
    sized: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.blocks)

    def extend(self, more: Headers) -> None:
        """Take in the headers of another tar."""
        first = len(self)
        self.blocks += more.blocks
        self.offsets += more.offsets
        self.sizes += more.sizes
        self.names |= {first + row: name for row, name in more.names.items()}
        self.sized |= {first + row for row in more.sized}

    @property
    def columns(self) -> tuple[list[bytes], list[int], list[int]]:
        """The three lists that grow together."""
        return self.blocks, self.offsets, self.sizes


def members_of(
    headers: Headers,
    place: str,
    folders: pa.Array | None = None,
    stamps: npt.NDArray[np.int64] | None = None,
) -> pa.Table:
    """Return the members that headers describe, after ``MEMBERS``.

    Args:
        headers: At least one.
        place: What the archive is called in errors.
        folders: What goes before each header's name, with a slash between them.
        stamps: What stands above the CRC-32 in each ``check``.

    Raises:
        BadArchive: A header is damaged.
        UnsafeMember: A name is unsafe.
    """
    blocks = np.frombuffer(b"".join(headers.blocks), np.uint8).reshape(-1, BLOCK)
    _check(blocks, headers, place)
    names = _text(_names(blocks, headers), place)
    kept = _without_folders(names, headers, place)
    if folders is not None:
        names = pc.binary_join_element_wise(folders, names, "/")
    offsets = np.array(headers.offsets, np.int64)
    sizes = pa.array(np.array(headers.sizes, np.int64))
    checks = np.fromiter(map(zlib.crc32, headers.blocks), np.int64, len(blocks))
    if stamps is not None:
        checks |= stamps << 32
    methods = pa.array(np.full(len(blocks), STORED, np.int8))
    table = pa.table(
        [names, offsets, offsets + BLOCK, sizes, sizes, methods, checks], schema=MEMBERS
    )
    return table if kept is None else table.filter(kept)


def _check(blocks: Blocks, headers: Headers, place: str) -> None:
    """Look at all headers at once, and closely at those that are not of the usual form."""
    digits = (blocks[:, 148:154] - np.uint8(ord("0"))).astype(np.int64)
    usual = (digits < 8).all(axis=1) & (digits @ _POWERS == _sums(blocks))
    usual &= (blocks[:, 154] == 0) & (blocks[:, 155] == ord(" "))
    usual &= (blocks[:, 257:262] == np.frombuffer(b"ustar", np.uint8)).all(axis=1)
    usual &= (blocks[:, 124:135] - np.uint8(ord("0")) < 8).all(axis=1)
    usual &= (blocks[:, 135] == 0) | (blocks[:, 135] == ord(" "))
    for row in np.flatnonzero(~usual).tolist():
        block, at = headers.blocks[row], headers.offsets[row]
        check_header(block, place, at)
        if row not in headers.sized:
            size_of(block, place, at)


def _sums(blocks: Blocks) -> npt.NDArray[np.int64]:
    """Return each header's checksum: the sum of its bytes, its own field counted as spaces."""
    words = blocks.view(np.uint64)
    # Four sums of 16 bits in each word; 64 words of two bytes each cannot overflow them.
    lanes = ((words & _LANES) + ((words >> np.uint64(8)) & _LANES)).sum(axis=1, dtype=np.uint64)
    sums: npt.NDArray[np.int64] = lanes.view(np.uint16).reshape(-1, 4).sum(axis=1, dtype=np.int64)
    sums -= blocks[:, 148:156].sum(axis=1, dtype=np.int64)
    return sums + 8 * ord(" ")


def _names(blocks: Blocks, headers: Headers) -> pa.Array:
    raw = blocks[:, :100]
    ends = raw == 0
    lengths = np.where(ends.any(axis=1), ends.argmax(axis=1), 100)
    starts = np.zeros(len(raw) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    data = raw[np.arange(100) < lengths[:, None]]
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(data)]
    names = pa.Array.from_buffers(pa.binary(), len(raw), buffers)
    longer = dict(headers.names)
    for row in np.flatnonzero((blocks[:, 262] == 0) & (blocks[:, 345] != 0)).tolist():
        longer.setdefault(row, header_name(headers.blocks[row]))
    return _replaced(names, longer)


def _replaced(names: pa.Array, others: dict[int, bytes]) -> pa.Array:
    if not others:
        return names
    mask = np.zeros(len(names), bool)
    mask[list(others)] = True
    values = [others[row] for row in sorted(others)]
    return pc.replace_with_mask(names, pa.array(mask), pa.array(values, pa.binary()))


def _text(names: pa.Array, place: str) -> pa.Array:
    """Return names as text, without the ``./`` that ``tar c .`` puts before each."""
    try:
        text = names.cast(pa.string())
    except pa.ArrowInvalid:
        for name in names:
            safe_name(name.as_py(), place)
        raise
    if pc.any(pc.starts_with(text, "./")).as_py():
        text = pc.replace_substring_regex(text, r"^\./", "")
    return text


def _without_folders(names: pa.Array, headers: Headers, place: str) -> pa.Array | None:
    """Check names, and tell all from the folders that old archives hold as empty files ``x/``.

    Returns:
        Which rows are files; None for all.
    """
    suspects = np.flatnonzero(pc.match_substring_regex(names, _SUSPECT).to_numpy(False)).tolist()
    if not suspects:
        return None
    kept = np.ones(len(names), bool)
    for row in suspects:
        name = names[row].as_py()
        is_folder = name.endswith("/") and headers.sizes[row] == 0
        safe_name(name.removesuffix("/" if is_folder else "").encode(), place)
        kept[row] = not is_folder
    return pa.array(kept)

"""Archives of very many small members, for what must not grow with their number."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.data import NAME
from benchmarks.places import DATA

_CLASS_MEMBERS = 1000
_BLOCK = 512
_END = bytes(2 * _BLOCK)


def many_members(name: str, members: int, contents: Sequence[bytes]) -> Path:
    """Return a tar of class tars of 1,000 members each, built when it is missing.

    Args:
        name: What the archive's folder is called.
        members: How many members all class tars hold together, a multiple of 1,000.
        contents: The members' contents, taken in turn.
    """
    path = DATA / f"{name}-{members}" / NAME
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".part")
    heads = [_head(len(content)) for content in contents]
    padded = [content + bytes(-len(content) % _BLOCK) for content in contents]
    with staged.open("wb") as out:
        for first in range(0, members, _CLASS_MEMBERS):
            wnid = f"n{first // _CLASS_MEMBERS + 1:08d}"
            inner = bytearray()
            for number in range(first, first + _CLASS_MEMBERS):
                turn = number % len(contents)
                inner += _named(heads[turn], f"{wnid}_{number}.JPEG") + padded[turn]
            inner += _END
            out.write(_named(_head(len(inner)), f"{wnid}.tar") + inner)
        out.write(_END)
        out.flush()
        os.fsync(out.fileno())
    staged.rename(path)
    return path


def _head(size: int) -> bytes:
    """Return a ustar header without a name, its checksum field blank.

    Source of the fields: POSIX.1-2017, pax, "ustar Interchange Format".
    """
    fields = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (0o644, 0, 0, size, 0)
    head = bytes(100) + fields + b" " * 8 + b"0" + bytes(100) + b"ustar\00000"
    return head.ljust(_BLOCK, b"\0")


def _named(head: bytes, name: str) -> bytes:
    filled = name.encode().ljust(100, b"\0") + head[100:]
    return b"%b%06o\0 %b" % (filled[:148], sum(filled), filled[156:])

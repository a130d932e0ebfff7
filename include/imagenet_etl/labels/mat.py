"""Read structs from a MAT-file of level 5, as far as the devkit's ``meta.mat`` needs it.

Source: "MAT-File Format", The MathWorks. A header of 128 bytes ends with the version and with a
mark of the byte order. Elements follow: a type, a length in bytes and the data, filled up to
8 bytes; or, where the data has 4 bytes at most, all of it in 8 bytes. Each array is an element of
elements: its flags, dimensions and name, then its content. A variable may be compressed by zlib.

Whatever is not asked for is skipped by its length, so nothing here calls itself, and memory is
bounded by ``MAX_BYTES`` and ``MAX_STRUCTS``.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HEADER_BYTES = 128
MAX_BYTES = 64 << 20
"""What the variables of a file may come to when unpacked; the official one needs some MB."""
MAX_STRUCTS = 200_000
"""More than WordNet has synsets."""

INT8, UINT8, UINT16, INT32, UINT32, DOUBLE, MATRIX, COMPRESSED, UTF8 = 1, 2, 4, 5, 6, 9, 14, 15, 16
STRUCT_CLASS, CHAR_CLASS, DOUBLE_CLASS = 2, 4, 6
_NUMBER_CLASSES = range(6, 16)
_CLASSES = range(1, 16)
_COMPLEX = 0x800
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_CHARS = {1: "ascii", 2: "ascii", 4: "utf-16-{}", 16: "utf-8", 17: "utf-16-{}", 18: "utf-32-{}"}
_ENDS = {"<": "le", ">": "be"}
_MAX_DIMENSIONS = 32

Value = float | str | None


class MatError(ValueError):
    """What the bytes say cannot be, or is not what was asked for; the caller names the file."""


class _Elements:
    """The elements that fill a stretch of bytes, one after another."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.order = order
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, *kinds: int) -> tuple[int, memoryview]:
        """Return the type and the data of the next element, which must be one of ``kinds``."""
        start, end = self._at + 8, len(self._data)
        if start > end:
            raise MatError("an element that is cut off")
        kind, size = struct.unpack_from(f"{self.order}II", self._data, self._at)
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, start - 4
            if size > 4:
                raise MatError(f"a small element of {size} bytes")
        if kind not in kinds:
            raise MatError(f"an element of type {kind} in place of {' or '.join(map(str, kinds))}")
        if size > end - start:
            raise MatError(f"an element of {size} bytes where {end - start} are left")
        self._at = start + size
        if kind != COMPRESSED:
            self._at += -self._at % 8
        return kind, self._data[start : start + size]

    def integers(self, kind: int) -> tuple[int, ...]:
        """Return the integers, of 4 bytes each, that the next element holds."""
        _, data = self.take(kind)
        if len(data) % 4 or len(data) > 4 * _MAX_DIMENSIONS:
            raise MatError(f"{len(data)} bytes in place of a few integers")
        return struct.unpack(f"{self.order}{len(data) // 4}{_NUMBERS[kind]}", data)

    def end(self) -> None:
        """Refuse bytes that nothing accounts for."""
        if self.left:
            raise MatError(f"{len(self._data) - self._at} bytes too many")


@dataclass(frozen=True)
class _Array:
    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str
    content: _Elements


def read_structs(data: bytes, variable: str, fields: Sequence[str]) -> list[dict[str, Value]]:
    """Return the structs of ``variable``, in MATLAB's order, with those of ``fields`` they have.

    A value is a number, a line of text, or None for what is neither.

    Raises:
        MatError: This is no MAT-file of level 5 with one struct or more in ``variable``.
    """
    for array in _variables(data):
        if array.name != variable:
            continue
        if array.kind != STRUCT_CLASS:
            raise MatError(f"{variable} of class {array.kind}, which is not that of structs")
        count = math.prod(array.shape)
        if not 0 < count <= MAX_STRUCTS:
            raise MatError(f"{count} {variable}")
        return _structs(array.content, count, fields)
    raise MatError(f"no {variable}")


def _variables(data: bytes) -> Iterator[_Array]:
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(data[124:HEADER_BYTES])
    if order is None:
        raise MatError("no header of level 5")
    budget = MAX_BYTES
    elements = _Elements(memoryview(data)[HEADER_BYTES:], order)
    while elements.left:
        kind, content = elements.take(MATRIX, COMPRESSED)
        if kind == COMPRESSED:
            unpacked = _unpack(content, budget)
            budget -= len(unpacked)
            inner = _Elements(memoryview(unpacked), order)
            _, content = inner.take(MATRIX)
            inner.end()
        array = _array(_Elements(content, order))
        if array:
            yield array


def _unpack(packed: memoryview, budget: int) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, budget + 1)
    except zlib.error as error:
        raise MatError(str(error)) from error
    if len(data) > budget:
        raise MatError(f"more than {MAX_BYTES} bytes when unpacked")
    if not unpacking.eof or unpacking.unused_data:
        raise MatError("compressed data that ends before or after its element")
    return data


def _array(content: _Elements) -> _Array | None:
    """Return what the head of an array says, None for one that is empty or of a later class."""
    if not content.left:
        return None
    flags = content.integers(UINT32)
    if len(flags) != 2:
        raise MatError(f"{len(flags)} words of flags in place of 2")
    kind = flags[0] & 0xFF
    if kind not in _CLASSES:
        return None
    shape = content.integers(INT32)
    if len(shape) < 2 or min(shape) < 0:
        raise MatError(f"an array of shape {shape}")
    _, name = content.take(INT8)
    return _Array(kind, bool(flags[0] & _COMPLEX), shape, str(name, "latin-1"), content)


def _structs(content: _Elements, count: int, fields: Sequence[str]) -> list[dict[str, Value]]:
    width = content.integers(INT32)
    _, joined = content.take(INT8)
    if len(width) != 1 or width[0] < 1 or len(joined) % width[0]:
        raise MatError(f"names of fields {width} wide in {len(joined)} bytes")
    starts = range(0, len(joined), width[0])
    names = [str(joined[at : at + width[0]], "latin-1").partition("\0")[0] for at in starts]
    rows: list[dict[str, Value]] = []
    for _ in range(count):
        row: dict[str, Value] = {}
        for name in names:
            _, inner = content.take(MATRIX)
            if name in fields:
                row[name] = _value(_array(_Elements(inner, content.order)))
        rows.append(row)
    content.end()
    return rows


def _value(array: _Array | None) -> Value:
    if array is None or array.is_complex:
        return None
    count = math.prod(array.shape)
    if array.kind in _NUMBER_CLASSES and count == 1:
        return _number(array.content)
    if array.kind == CHAR_CLASS and len(array.shape) == 2 and (array.shape[0] == 1 or not count):
        return _text(array.content, count)
    return None


def _number(content: _Elements) -> float:
    kind, data = content.take(*_NUMBERS)
    content.end()
    layout = content.order + _NUMBERS[kind]
    if struct.calcsize(layout) != len(data):
        raise MatError(f"a number of {len(data)} bytes")
    value: float = struct.unpack(layout, data)[0]
    return value


def _text(content: _Elements, count: int) -> str:
    kind, data = content.take(*_CHARS)
    content.end()
    codec = _CHARS[kind].format(_ENDS[content.order])
    try:
        text = str(data, codec)
    except UnicodeDecodeError as error:
        raise MatError(f"text that is not in {codec}") from error
    # MATLAB counts a character beyond the first 65,536 twice, SciPy once.
    if count not in (len(text), len(text.encode("utf-16-le", "surrogatepass")) // 2):
        raise MatError(f"text of {len(text)} characters in place of {count}")
    return text

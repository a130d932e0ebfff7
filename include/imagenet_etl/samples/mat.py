"""Write an array of structs as a MAT-file of level 5, as MATLAB does; ``labels.mat`` reads it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from imagenet_etl.labels.mat import (
    CHAR_CLASS,
    COMPRESSED,
    DOUBLE,
    DOUBLE_CLASS,
    HEADER_BYTES,
    INT8,
    INT32,
    MATRIX,
    STRUCT_CLASS,
    UINT8,
    UINT16,
    UINT32,
    UTF8,
)

_LEVEL_5 = b"\x00\x01IM"
_TITLE = b"MATLAB 5.0 MAT-file, a sample"
_NAME_BYTES = 32
"""Room for the name of a field and the zero after it, as MATLAB up to version 7 has it."""

Field = float | str | Sequence[float]


def write_structs(variable: str, fields: Sequence[str], rows: Sequence[Sequence[Field]]) -> bytes:
    """Return a file with a column of structs, one a row, compressed; equal rows give equal bytes.

    Numbers become doubles, stored in fewer bytes where they fit.
    """
    names = b"".join(field.encode("ascii").ljust(_NAME_BYTES, b"\0") for field in fields)
    content = [
        _element(INT32, struct.pack("<i", _NAME_BYTES)),
        _element(INT8, names),
        *(_field(value) for row in rows for value in row),
    ]
    column = _array(STRUCT_CLASS, (len(rows), 1), b"".join(content), variable)
    packed = zlib.compress(column)
    header = _TITLE.ljust(HEADER_BYTES - len(_LEVEL_5)) + _LEVEL_5
    return header + struct.pack("<II", COMPRESSED, len(packed)) + packed


def _field(value: Field) -> bytes:
    if isinstance(value, str):
        return _array(CHAR_CLASS, (1, len(value)), _element(UTF8, value.encode()))
    numbers = [value] if isinstance(value, (int, float)) else value
    return _array(DOUBLE_CLASS, (1, len(numbers)), _numbers(numbers))


def _numbers(numbers: Sequence[float]) -> bytes:
    for kind, code, limit in ((UINT8, "B", 0xFF), (UINT16, "H", 0xFFFF)):
        if all(number in range(limit + 1) for number in numbers):
            return _element(kind, struct.pack(f"<{len(numbers)}{code}", *map(int, numbers)))
    return _element(DOUBLE, struct.pack(f"<{len(numbers)}d", *numbers))


def _array(kind: int, shape: tuple[int, int], content: bytes, name: str = "") -> bytes:
    head = (
        _element(UINT32, struct.pack("<II", kind, 0))
        + _element(INT32, struct.pack("<ii", *shape))
        + _element(INT8, name.encode("ascii"))
    )
    return _element(MATRIX, head + content)


def _element(kind: int, data: bytes) -> bytes:
    if 0 < len(data) <= 4:
        return struct.pack("<HH4s", kind, len(data), data)
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

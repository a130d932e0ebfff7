"""Caffe's ``Datum`` and ``BlobProto`` on the wire.

Source: BVLC Caffe ``src/caffe/proto/caffe.proto`` (field numbers and types), Protocol Buffers
encoding (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imagenet_etl.errors import RecordError

_VARINT, _BYTES = 0, 2
_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _ENCODED = 1, 2, 3, 4, 5, 7
_BLOB_NUM, _BLOB_CHANNELS, _BLOB_HEIGHT, _BLOB_WIDTH, _BLOB_DATA = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Datum:
    """An encoded image with its label.

    Attributes:
        height: Pixels.
        width: Pixels.
        label: Its class, counted from 0.
        data: A complete image file.
    """

    height: int
    width: int
    label: int
    data: bytes | memoryview


def datum_parts(datum: Datum) -> tuple[bytes, bytes | memoryview, bytes]:
    """Return a ``Datum`` message in three pieces, of which the middle one is the image itself."""
    size = _field(_CHANNELS, 3) + _field(_HEIGHT, datum.height) + _field(_WIDTH, datum.width)
    head = size + _varint(_DATA << 3 | _BYTES) + _varint(len(datum.data))
    return head, datum.data, _field(_LABEL, datum.label) + _field(_ENCODED, 1)


def parse_datum(message: bytes | memoryview) -> Datum:
    """Read a ``Datum`` message.

    Raises:
        RecordError: It is cut off, or is no encoded image.
    """
    message = memoryview(message)
    values: dict[int, int] = {}
    data = memoryview(b"")
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            values[tag >> 3], at = _read_varint(message, at)
            continue
        if kind != _BYTES:
            raise RecordError(f"a Datum with wire type {kind} at byte {at}")
        size, at = _read_varint(message, at)
        if at + size > len(message):
            raise RecordError(f"a Datum cut off at byte {len(message)}")
        if tag >> 3 == _DATA:
            data = message[at : at + size]
        at += size
    if not {_HEIGHT, _WIDTH, _LABEL} <= set(values) or not values.get(_ENCODED):
        raise RecordError("a Datum without size, label or encoded image")
    return Datum(values[_HEIGHT], values[_WIDTH], values[_LABEL], data)


def blob_proto(mean: np.ndarray) -> bytes:
    """Return a ``BlobProto`` of 1 x 3 x H x W floats, channels in the order BGR.

    Args:
        mean: (H, W, 3) floats, RGB.
    """
    height, width, channels = mean.shape
    planes = mean[:, :, ::-1].transpose(2, 0, 1).astype("<f4").tobytes()
    return (
        _field(_BLOB_NUM, 1)
        + _field(_BLOB_CHANNELS, channels)
        + _field(_BLOB_HEIGHT, height)
        + _field(_BLOB_WIDTH, width)
        + _varint(_BLOB_DATA << 3 | _BYTES)
        + _varint(len(planes))
        + planes
    )


def _field(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise RecordError(f"a Datum with a broken number at byte {at}")

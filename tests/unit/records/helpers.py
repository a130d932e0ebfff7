"""Records for the tests of the formats, and what they left in a folder."""

import hashlib

from imagenet_etl.records.base import Record
from imagenet_etl.records.recordio import MAGIC


def record(position, data=b"image", **fields):
    values = {
        "key": position * 3 % 7 + 10 * position,
        "position": position,
        "label": position % 2,
        "wnid": f"n0000000{1 + position % 2}",
        "file_name": f"n0000000{1 + position % 2}_{position}.JPEG",
        "data": data,
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": 40,
        "height": 30,
    }
    return Record(**values | fields)


RECORDS = [
    record(0, b"first" * 50),
    record(1, b"abcd" + MAGIC + b"e"),
    record(2, b"\xff\xd8 as is"),
    record(3, b"x" * 512),
    record(4, MAGIC),
]


def files_below(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def write(writer, records):
    """Write records; return where each is, and the files by suffix."""
    with writer:
        placed = [writer.write(item) for item in records]
        written = writer.commit()
    return placed, {"".join(file.path.suffixes): file.path for file in written}

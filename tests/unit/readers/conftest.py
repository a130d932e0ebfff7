from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from imagenet_etl.records.recordio import RecordIoWriter

Pack = Callable[[str, Sequence[tuple[int, bytes]]], Path]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Write records, whose label is their key modulo 3, to a named shard; return its ``.rec``."""

    def write(name: str, records: Sequence[tuple[int, bytes]]) -> Path:
        with RecordIoWriter(tmp_path / "train", name) as writer:
            for key, image in records:
                writer.append(key, (float(key % 3),), image, f"n00000001/{key}.JPEG")
            return writer.commit()[0].path

    return write

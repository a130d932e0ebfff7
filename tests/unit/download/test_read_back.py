"""The pass that proves a download that was not hashed while it was written."""

import hashlib
import os
import random
from pathlib import Path

import pytest

from imagenet_etl.download.pieces import Pieces
from imagenet_etl.download.read_back import changed_pieces

PIECE = 1 << 20
CONTENT = random.Random(7).randbytes(20 * PIECE + 5)


def read(path: Path, content: bytes, piece_bytes: int = PIECE) -> tuple[list[int], str, int]:
    """Return the changed pieces, the digest of the whole and how many bytes were told of."""
    starts = range(0, len(CONTENT), piece_bytes)
    proven = {
        number: hashlib.sha256(CONTENT[at : at + piece_bytes]).hexdigest()
        for number, at in enumerate(starts)
    }
    path.write_bytes(content)
    told: list[int] = []
    whole = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY)
    try:
        pieces = Pieces(piece_bytes, len(CONTENT), proven)
        changed = changed_pieces(fd, len(CONTENT), pieces, [whole], told.append)
    finally:
        os.close(fd)
    return changed, whole.hexdigest(), sum(told)


@pytest.mark.parametrize("mib", [1, 3, 8, 16, 64])
def test_whole_file_is_proven_with_pieces_of_any_length(tmp_path: Path, mib: int) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert read(tmp_path / "a", CONTENT, mib * PIECE) == ([], sha256, len(CONTENT))


def test_every_changed_piece_is_named(tmp_path: Path) -> None:
    content = bytearray(CONTENT)
    for number in (0, 7, 20):
        content[number * PIECE] ^= 1
    assert read(tmp_path / "a", bytes(content))[0] == [0, 7, 20]


def test_pieces_that_are_no_longer_there_are_named(tmp_path: Path) -> None:
    assert read(tmp_path / "a", CONTENT[: 18 * PIECE])[0] == [18, 19, 20]

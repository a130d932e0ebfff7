"""Gzip files of any length, checked to their last byte."""

import gzip
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.archives.gunzip import Gunzip
from imagenet_etl.errors import BadArchive

CONTENT = random.Random(3).randbytes(30_000) + bytes(30_000)
PACKED = gzip.compress(CONTENT, mtime=0)


def unpacked(data, step=1000):
    """Unpack data that arrives in blocks."""
    gunzip = Gunzip("my.tar.gz")
    pieces = [
        piece for at in range(0, len(data), step) for piece in gunzip.feed(data[at : at + step])
    ]
    gunzip.finish()
    return b"".join(pieces)


@given(
    members=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    step=st.integers(1, 400),
    padding=st.integers(0, 9),
)
def test_members_come_out_one_after_the_other_however_they_arrive(members, step, padding):
    packed = b"".join(gzip.compress(member) for member in members) + bytes(padding)
    assert unpacked(packed, step) == b"".join(members)


@pytest.mark.parametrize("kept", [0, 1, 2, 9, 10, 11, 500, -9, -8, -5, -4, -1])
def test_one_that_ends_too_early_is_refused(kept):
    with pytest.raises(BadArchive, match=r"my\.tar\.gz cannot be unpacked.*found its end after"):
        unpacked(PACKED[:kept])


@pytest.mark.parametrize("kept", [1, 5, 12, -1])
def test_a_second_member_that_ends_too_early_is_refused(kept):
    with pytest.raises(BadArchive, match="its end after"):
        unpacked(PACKED + PACKED[:kept])


@pytest.mark.parametrize("at", [0, 1, 2, 20_000, -8, -5, -4, -1])
def test_a_flipped_bit_is_noticed(at):
    data = bytearray(PACKED)
    data[at] ^= 0x08
    with pytest.raises(BadArchive, match="cannot be unpacked: expected a whole gzip file"):
        unpacked(bytes(data))


@pytest.mark.parametrize("behind", [b"x", b"\0\0x", b"<html>", b"\0\0" + PACKED, b"\x1fx"])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_other_bytes_behind_the_end_are_refused(behind, step):
    with pytest.raises(BadArchive, match=r"other bytes behind its end|incorrect header"):
        unpacked(PACKED + behind, step)


@pytest.mark.parametrize("data", [b"x" * 40, bytes(40)])
def test_what_is_no_gzip_file_is_refused(data):
    with pytest.raises(BadArchive, match="found other bytes"):
        unpacked(data)


def test_what_is_packed_a_thousandfold_comes_out_in_pieces():
    packed = gzip.compress(bytes(64 << 20), mtime=0)
    gunzip, total, largest = Gunzip("zeros"), 0, 0
    tracemalloc.start()
    for piece in gunzip.feed(packed):
        total, largest = total + len(piece), max(largest, len(piece))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gunzip.finish()
    assert total == 64 << 20
    assert largest <= 4 << 20
    assert peak < 16 << 20

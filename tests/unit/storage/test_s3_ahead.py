"""Reading ahead in bounded memory, over bytes that are at hand."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagenet_etl.errors import CloudUnavailable
from imagenet_etl.storage.s3_ahead import LARGEST_GAP, ReadAhead, Room, joined

_SIZE = 200_000
_DATA = random.Random(7).randbytes(_SIZE)
_POOL = ThreadPoolExecutor(8)


class _Source:
    """Gives bytes, and notes which ranges were asked for; may be held up."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int]] = []
        self.open = threading.Event()
        self.open.set()
        self.fails = 0

    def fetch(self, offset: int, size: int) -> bytes:
        self.open.wait(10)
        self.got.append((offset, size))
        if self.fails:
            self.fails -= 1
            raise CloudUnavailable("broke off")
        return _DATA[offset : offset + size]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.got)


@pytest.fixture
def source() -> _Source:
    return _Source()


def ahead_of(source: _Source, room_bytes: int = 1 << 20) -> tuple[ReadAhead, Room]:
    room = Room(lambda: _POOL, room_bytes)
    return ReadAhead(source.fetch, _SIZE, room), room


def covered(spans: list[tuple[int, int]]) -> int:
    """Return how many different bytes spans hold."""
    mask = 0
    for offset, size in spans:
        mask |= ((1 << size) - 1) << offset
    return mask.bit_count()


span = st.tuples(st.integers(0, _SIZE - 1), st.integers(1, 9_000))


@settings(max_examples=40, deadline=None)
@given(lots=st.lists(st.lists(span, max_size=12), max_size=5), seed=st.integers(0, 99))
def test_any_spans_read_in_any_order_are_right_and_fetched_once(lots, seed):
    source = _Source()
    ahead, room = ahead_of(source, 64 << 20)
    asked = [(a, min(n, _SIZE - a)) for lot in lots for a, n in lot]
    for lot in lots:
        ahead.ask(lot)
    random.Random(seed).shuffle(asked)
    for offset, size in asked:
        assert ahead.take(offset, size) == _DATA[offset : offset + size]
    assert source.bytes == covered(source.got)
    assert source.bytes <= 1.02 * covered(asked)
    assert room.used_bytes == 0


@settings(max_examples=40, deadline=None)
@given(cuts=st.sets(st.integers(1, _SIZE - 1), max_size=40), seed=st.integers(0, 99),
       room_bytes=st.sampled_from([0, 5_000, 30_000]))  # fmt: skip
def test_little_room_changes_neither_bytes_nor_how_often_they_come(cuts, seed, room_bytes):
    source = _Source()
    ahead, room = ahead_of(source, room_bytes)
    edges = [0, *sorted(cuts), _SIZE]
    spans = [(a, b - a) for a, b in pairwise(edges)]
    random.Random(seed).shuffle(spans)
    ahead.ask(spans[::2])
    ahead.ask(spans[1::2])
    for offset, size in spans:
        assert ahead.take(offset, size) == _DATA[offset : offset + size]
    assert source.bytes == _SIZE
    assert room.most_used_bytes <= room_bytes
    assert room.used_bytes == 0


@settings(max_examples=40, deadline=None)
@given(reads=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 8_000)), max_size=12))
def test_what_is_read_need_not_be_what_was_asked_for(reads):
    source = _Source()
    ahead, _ = ahead_of(source)
    ahead.ask([(0, 5_000), (5_100, 3_000), (9_000, 2_000)])
    for offset, size in reads:
        assert ahead.take(offset, size) == _DATA[offset : offset + size]


def test_neighbours_come_by_one_request(source):
    ahead, _ = ahead_of(source)
    ahead.ask([(at, 9_900) for at in range(0, 100_000, 10_000)])
    assert ahead.take(0, 9_900) == _DATA[:9_900]
    assert source.got == [(0, 99_900)]


def test_a_wide_gap_is_not_read_over(source):
    ahead, _ = ahead_of(source)
    far = 90_000 + LARGEST_GAP + 1
    ahead.ask([(0, 90_000), (far, 90_000)])
    ahead.take(far, 90_000)
    ahead.take(0, 90_000)
    assert sorted(source.got) == [(0, 90_000), (far, 90_000)]


def test_small_spans_far_apart_leave_their_gaps_alone(source):
    ahead, _ = ahead_of(source)
    spans = [(at, 512) for at in range(0, 50_000, 2_000)]
    ahead.ask(spans)
    for span in spans:
        ahead.take(*span)
    assert source.bytes == 512 * len(spans)


def test_pieces_come_in_the_order_of_asking():
    pieces = joined([(50, 60), (0, 10), (60, 70)])
    assert [(piece.start, piece.end) for piece in pieces] == [(50, 70), (0, 10)]


def test_what_is_not_read_keeps_its_room_until_it_is_closed(source):
    ahead, room = ahead_of(source, 10_000)
    other = ReadAhead(source.fetch, _SIZE, room)
    ahead.ask([(0, 10_000)])
    other.ask([(50_000, 10_000)])
    assert room.used_bytes == 10_000
    ahead.close()
    assert room.used_bytes == 10_000
    assert other.take(50_000, 10_000) == _DATA[50_000:60_000]
    assert room.used_bytes == 0
    assert source.got.count((50_000, 10_000)) == 1


def test_a_reader_waits_for_what_is_under_way(source):
    ahead, _ = ahead_of(source)
    source.open.clear()
    ahead.ask([(0, 100)])
    threading.Timer(0.02, source.open.set).start()
    assert ahead.take(0, 100) == _DATA[:100]
    assert source.got == [(0, 100)]


def test_a_failure_meets_its_reader_and_the_next_read_asks_again(source):
    ahead, room = ahead_of(source)
    source.fails = 1
    ahead.ask([(0, 100)])
    with pytest.raises(CloudUnavailable, match="broke off"):
        ahead.take(0, 100)
    assert ahead.take(0, 100) == _DATA[:100]
    assert room.used_bytes == 0


def test_spans_beyond_the_end_are_cut(source):
    ahead, _ = ahead_of(source)
    ahead.ask([(_SIZE - 10, 100), (_SIZE, 5), (_SIZE + 5, 5), (3, 0)])
    assert ahead.take(_SIZE - 10, 10) == _DATA[-10:]
    assert source.bytes == 10


def test_many_threads_read_what_one_asked_for(source):
    ahead, room = ahead_of(source, 60_000)
    spans = [(at, 1_000) for at in range(0, _SIZE, 1_000)]
    ahead.ask(spans)
    with ThreadPoolExecutor(6) as readers:
        got = list(readers.map(lambda span: ahead.take(*span), spans))
    assert b"".join(got) == _DATA
    assert source.bytes == _SIZE
    assert room.used_bytes == 0

"""Heaps of rows, in memory and in files."""

import uuid

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.buckets import Buckets

SCHEMA = pa.schema([("value", pa.int64()), ("text", pa.string())])


def rows(values):
    return pa.table([values, [f"row {value}" for value in values]], schema=SCHEMA)


def buckets(folder, max_bytes):
    return Buckets(SCHEMA, lambda: folder / uuid.uuid4().hex, max_bytes)


@given(
    batches=st.lists(st.lists(st.integers(0, 4), max_size=20), max_size=12),
    max_bytes=st.sampled_from([0, 300, 1 << 20]),
)
def test_what_is_put_on_a_heap_comes_back_in_order(tmp_path_factory, batches, max_bytes):
    folder = tmp_path_factory.mktemp("buckets")
    heaps, expected, value = buckets(folder, max_bytes), {}, 0
    for numbers in batches:
        values = list(range(value, value + len(numbers)))
        value += len(numbers)
        heaps.add(rows(values), np.array(numbers, np.int64))
        for number, one in zip(numbers, values, strict=True):
            expected.setdefault(number, []).append(one)
    for number in range(5):
        assert heaps.take(number).equals(rows(expected.get(number, [])))
    assert list(folder.iterdir()) == []


def test_small_heaps_touch_no_disk(tmp_path):
    heaps = buckets(tmp_path, 1 << 20)
    heaps.add(rows(list(range(100))), np.arange(100) % 3)
    assert list(tmp_path.iterdir()) == []


def test_large_heaps_have_a_file_each(tmp_path):
    heaps = buckets(tmp_path, 0)
    for start in range(0, 100, 10):
        heaps.add(rows(list(range(start, start + 10))), np.arange(10) % 3)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_heap_that_was_taken_may_grow_again(tmp_path):
    heaps = buckets(tmp_path, 0)
    heaps.add(rows([1]), np.array([0]))
    assert heaps.take(0).num_rows == 1
    heaps.add(rows([2]), np.array([0]))
    assert heaps.take(0).equals(rows([2]))

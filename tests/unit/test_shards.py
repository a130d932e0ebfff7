"""Where shards and segments begin and end."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.config import SEGMENT_RECORDS, Settings
from imagenet_etl.errors import ConfigError, CountMismatch
from imagenet_etl.selection import Group, parse_group
from imagenet_etl.shards import SHARD_RECORDS, SHARED_BY, Split, shard_records, spans_of

SETTINGS = Settings("tiny_imagenet", "/data")
MIB = 1 << 20


def spans(records, first=0, split="train", size=1000, **settings):
    of = Split(split, records, records * size)
    return list(spans_of(of, replace(SETTINGS, **settings), first))


@pytest.mark.parametrize(
    ("count", "shards", "segments"),
    [
        (10, 0, [(0, 0, 1, 10)]),
        (512, 0, [(0, 0, 1, 512)]),
        (513, 0, [(0, 0, 1, 512), (1, 0, 1, 1)]),
        (10_000, 0, [(n, 0, 1, 625) for n in range(16)]),
        (10_000, 1, [(0, n, 16, 625) for n in range(16)]),
        (10_000, 2, [(k, n, 8, 625) for k in range(2) for n in range(8)]),
        (SEGMENT_RECORDS, 1, [(0, 0, 1, 4096)]),
        (8193, 2, [(0, n, 8, 513) for n in range(7)] + [(0, 7, 8, 506), (1, 0, 1, 4096)]),
        (70_000, 0, [(n, 0, 1, 4096) for n in range(17)] + [(17, 0, 1, 368)]),
        (10, 3, [(0, 0, 1, 4), (1, 0, 1, 4), (2, 0, 1, 2)]),
        (2, 5, [(0, 0, 1, 1), (1, 0, 1, 1)]),
    ],
)
def test_shards_are_cut_by_im2recs_rule_and_into_segments(count, shards, segments):
    found = spans(count, first=7, shards=shards)
    parts = [(s.segment.shard, s.segment.part, s.segment.parts, s.segment.records) for s in found]
    assert parts == segments
    assert [s.segment.number for s in found] == list(range(7, 7 + len(found)))
    assert [s.segment.start for s in found] == [s.first for s in found]


@given(
    records=st.integers(1, 200_000),
    shards=st.integers(0, 40),
    shard_mib=st.integers(0, 40),
    ratios=st.sampled_from([(1.0, 0.0), (0.5, 0.0), (0.5, 0.25), (0.75, 0.25), (0.7, 0.3)]),
)
def test_every_position_is_in_one_segment(records, shards, shard_mib, ratios):
    train, test = ratios
    found = spans(records, shards=shards, shard_mib=shard_mib, train_ratio=train, test_ratio=test)
    ranges = sorted((s.first, s.first + s.segment.records) for s in found)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == records
    assert all(one[1] == other[0] for one, other in pairwise(ranges))
    assert all(0 < s.segment.records <= SHARD_RECORDS for s in found)
    if shards or not shard_mib:
        assert all(s.segment.records <= SEGMENT_RECORDS for s in found)


@pytest.mark.parametrize(
    ("train", "test", "splits"),
    [
        (1.0, 0.0, {"train": [4, 4, 2]}),
        (0.5, 0.0, {"train": [2, 2, 2], "val": [2, 2]}),
        (0.5, 0.25, {"test": [1, 1, 1], "train": [2, 2, 1], "val": [1, 1]}),
        (0.75, 0.25, {"test": [1, 1, 1], "train": [3, 3, 1]}),
        (0.7, 0.3, {"test": [1, 1, 1], "train": [3, 3, 1]}),
        (0.0, 1.0, {"test": [4, 4, 2]}),
    ],
)
def test_ratios_divide_every_chunk_as_im2rec_does(train, test, splits):
    """im2rec takes its counts from the first chunk's size, also for a last one that is smaller."""
    found = spans(10, shards=3, train_ratio=train, test_ratio=test)
    sizes: dict[str, list[int]] = {}
    for span in found:
        sizes.setdefault(span.segment.split, []).append(span.segment.records)
    assert sizes == splits


def test_a_split_without_images_is_refused():
    with pytest.raises(CountMismatch, match="split val holds no image"):
        spans(0, split="val")


def test_shards_have_the_size_that_is_asked_for_and_are_packed_in_one_go():
    found = spans(100_000, size=10_000, shard_mib=50)
    count = -(-100_000 * 10_000 // (50 * MIB))
    assert count >= SHARED_BY
    assert [s.segment.parts for s in found] == [1] * count
    assert {s.segment.records for s in found[:-1]} == {-(-100_000 // count)}


def test_a_shard_of_very_many_images_is_cut_all_the_same():
    found = spans(1_000_000, size=1000, shard_mib=40)
    assert max(s.segment.records for s in found) == SEGMENT_RECORDS
    assert max(s.segment.parts for s in found) > 1


def test_a_few_large_shards_are_cut_so_that_all_workers_have_work():
    found = spans(20_000, size=1000, shard_mib=10)
    assert len({s.segment.shard for s in found}) == 2
    assert len(found) > SHARED_BY - 1


def test_a_number_of_shards_goes_before_their_size():
    assert (
        shard_records(Split("train", 1000, 10**9), replace(SETTINGS, shards=8, shard_mib=1)) == 125
    )


@pytest.mark.parametrize(("val_shards", "shards"), [(0, 20), (3, 3)])
def test_the_size_holds_for_validation_shards_too(val_shards, shards):
    found = spans(20_000, split="val", size=MIB // 1000, shard_mib=1, val_shards=val_shards)
    assert len({s.segment.shard for s in found}) == shards


@given(count=st.integers(1, 40), total=st.integers(0, 99))
def test_groups_share_the_segments_without_overlap(count, total):
    shares = [Group(number, count).of(list(range(total))) for number in range(1, count + 1)]
    assert sorted(one for share in shares for one in share) == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1.0/2"])
def test_a_group_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="group"):
        parse_group(text)

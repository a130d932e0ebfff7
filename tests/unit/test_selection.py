import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.config import SEGMENT_RECORDS, Settings
from imagenet_etl.errors import ConfigError, CountMismatch
from imagenet_etl.index import INDEX, PLAN
from imagenet_etl.selection import Group, chunks, cut, divided, keyed, parse_group, shuffled
from imagenet_etl.tables import open_parquet

WNIDS = ["n00000001", "n00000002", "n00000003"]


def index_of(count, seed=0, splits=("train",)):
    """Return an index of ``count`` images in an arbitrary order."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        wnid, split = rng.choice(WNIDS), rng.choice(splits)
        name = f"{wnid}_{number}.JPEG"
        rows.append(("a.zip", name, number, number, 7, number + 1, 0, 0, split, wnid, name))
    rng.shuffle(rows)
    return pa.table(list(zip(*rows, strict=True)) or [[]] * len(INDEX), schema=INDEX)


def test_keys_number_the_images_by_class_and_file_name():
    index = index_of(40, splits=("train", "val"))
    rows = keyed(index, "train", WNIDS).to_pylist()
    names = [(row["wnid"], row["file_name"]) for row in rows]
    assert names == sorted(
        (row["wnid"], row["file_name"]) for row in index.to_pylist() if row["split"] == "train"
    )
    assert [row["key"] for row in rows] == list(range(len(rows)))
    assert [row["label"] for row in rows] == [WNIDS.index(row["wnid"]) for row in rows]


def test_labels_do_not_depend_on_which_classes_a_split_has():
    index = index_of(40)
    only_last = index.filter(pa.array([row == WNIDS[2] for row in index["wnid"].to_pylist()]))
    assert set(keyed(only_last, "train", WNIDS)["label"].to_pylist()) == {2}


def test_the_order_depends_on_the_seed_alone():
    one, two = (keyed(index_of(200, seed=0), "train", WNIDS) for _ in range(2))
    assert shuffled(one, 100).equals(shuffled(two, 100))
    assert not shuffled(one, 100).equals(shuffled(one, 101))
    reordered = index_of(200, seed=0).sort_by("member")
    assert shuffled(keyed(reordered, "train", WNIDS), 100).equals(shuffled(one, 100))


def segments_of(count, shards, first=0, seed=None):
    table = keyed(index_of(count), "train", WNIDS)
    table = table if seed is None else shuffled(table, seed)
    return list(cut(list(chunks(table, shards)), "train", first))


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
    found = [s for s, _ in segments_of(count, shards, first=7)]
    assert [(s.shard, s.part, s.parts, s.records) for s in found] == segments
    assert [s.number for s in found] == list(range(7, 7 + len(found)))
    assert [s.start for s in found] == [
        sum(s.records for s in found[:n]) for n in range(len(found))
    ]


@given(count=st.integers(1, 300), shards=st.integers(0, 40), seed=st.integers(0, 9))
def test_every_image_is_planned_exactly_once_and_in_order(count, shards, seed):
    table = shuffled(keyed(index_of(count), "train", WNIDS), seed)
    pieces = segments_of(count, shards, seed=seed)
    keys = [key for _, piece in pieces for key in piece["key"].to_pylist()]
    assert keys == table["key"].to_pylist()
    assert sorted(keys) == list(range(count))
    for segment, piece in pieces:
        assert piece.schema.equals(PLAN, check_metadata=True)
        assert segment.records == piece.num_rows <= SEGMENT_RECORDS
        assert segment.bytes == sum(piece["size"].to_pylist())
        assert set(piece["segment"].to_pylist()) == {segment.number}
        assert set(piece["shard"].to_pylist()) == {segment.shard}


@pytest.mark.parametrize(
    ("train", "test", "splits"),
    [
        (1.0, 0.0, {"train": [4, 4, 2]}),
        (0.5, 0.0, {"train": [2, 2, 2], "val": [2, 2]}),
        (0.5, 0.25, {"test": [1, 1, 1], "train": [2, 2, 1], "val": [1, 1]}),
        (0.75, 0.25, {"test": [1, 1, 1], "train": [3, 3, 1]}),
        (0.7, 0.3, {"test": [1, 1, 1], "train": [3, 3, 1]}),
        (0.0, 1.0, {"test": [4, 4, 2], "train": []}),
    ],
)
def test_ratios_divide_every_chunk_as_im2rec_does(train, test, splits):
    """im2rec takes its counts from the first chunk's size, also for a last one that is smaller."""
    settings = Settings("tiny_imagenet", "/data", train_ratio=train, test_ratio=test)
    table = keyed(index_of(10), "train", WNIDS)
    found = dict(divided(list(chunks(table, 3)), "train", settings))
    assert {name: [p.num_rows for p in pieces] for name, pieces in found.items()} == splits
    keys = [key for pieces in found.values() for p in pieces for key in p["key"].to_pylist()]
    assert sorted(keys) == list(range(10))


@given(count=st.integers(1, 200), shards=st.integers(1, 9), test=st.integers(0, 100),
       rest=st.integers(0, 100))  # fmt: skip
def test_no_ratio_loses_an_image(count, shards, test, rest):
    """im2rec loses some where its two ratios add up to 1: both counts are cut down."""
    train = max(0, 100 - test - rest)
    settings = Settings("tiny_imagenet", "/data", train_ratio=train / 100,
                        test_ratio=min(test, 100 - train) / 100)  # fmt: skip
    pieces = list(chunks(keyed(index_of(count), "train", WNIDS), shards))
    keys = [
        key
        for _, parts in divided(pieces, "train", settings)
        for part in parts
        for key in part["key"].to_pylist()
    ]
    assert sorted(keys) == list(range(count))


def test_a_validation_split_cannot_be_made_where_there_is_one(tmp_path):
    build = build_of(tmp_path, tiny_zip(tmp_path), train_ratio=0.5)
    with pytest.raises(ConfigError, match="the dataset has one of its own"):
        run_stages(build, "plan_shards")


def test_a_test_split_can_be_made_of_training_images(tmp_path):
    build = build_of(tmp_path, tiny_zip(tmp_path), train_ratio=0.75, test_ratio=0.25)
    counts = run_stages(build, "plan_shards")["plan_shards"].counts
    assert (counts["test_images"], counts["train_images"], counts["val_images"]) == (3, 9, 6)


@given(count=st.integers(1, 40), total=st.integers(0, 99))
def test_groups_share_the_segments_without_overlap(count, total):
    shares = [Group(number, count).of(list(range(total))) for number in range(1, count + 1)]
    assert sorted(one for share in shares for one in share) == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1.0/2"])
def test_a_group_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="group"):
        parse_group(text)


def test_the_stage_writes_a_row_group_for_each_segment(tmp_path):
    build = build_of(tmp_path, tiny_zip(tmp_path), shards=5, val_shards=2)
    receipt = run_stages(build, "plan_shards")["plan_shards"]
    segments = json.loads(build.storage.read(receipt.key_of("segments.json")))
    assert [(s["split"], s["shard"], s["records"]) for s in segments] == [
        ("train", 0, 3), ("train", 1, 3), ("train", 2, 3), ("train", 3, 3),
        ("val", 0, 3), ("val", 1, 3),
    ]  # fmt: skip
    with open_parquet(build.storage, receipt.key_of("plan.parquet")) as plan:
        assert isinstance(plan, pq.ParquetFile)
        assert plan.metadata.num_row_groups == len(segments)
        for segment in segments:
            rows = plan.read_row_group(segment["number"]).to_pylist()
            assert {(row["segment"], row["split"]) for row in rows} == {
                (segment["number"], segment["split"])
            }
    assert receipt.counts == {
        "train_images": 12, "val_images": 6, "segments": 6, "left_out_test": 2,
    }  # fmt: skip


def test_a_dataset_without_validation_images_is_refused(tmp_path):
    changes = {f"val/images/val_{n}.JPEG": None for n in range(6)}
    build = build_of(tmp_path, tiny_zip(tmp_path, changes | {"val/val_annotations.txt": b""}))
    with pytest.raises(CountMismatch, match="split val holds no image"):
        run_stages(build, "plan_shards")

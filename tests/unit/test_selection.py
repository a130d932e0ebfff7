import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.config import SEGMENT_RECORDS
from imagenet_etl.errors import CountMismatch
from imagenet_etl.index import INDEX, PLAN
from imagenet_etl.selection import cut, keyed, shuffled
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


@pytest.mark.parametrize(
    ("count", "shards", "segments"),
    [
        (10, 0, [(0, 0, 1, 10)]),
        (SEGMENT_RECORDS, 0, [(0, 0, 1, 4096)]),
        (SEGMENT_RECORDS + 1, 0, [(0, 0, 1, 4096), (1, 0, 1, 1)]),
        (10_000, 0, [(0, 0, 1, 4096), (1, 0, 1, 4096), (2, 0, 1, 1808)]),
        (10_000, 1, [(0, 0, 3, 4096), (0, 1, 3, 4096), (0, 2, 3, 1808)]),
        (10_000, 2, [(0, 0, 2, 4096), (0, 1, 2, 904), (1, 0, 2, 4096), (1, 1, 2, 904)]),
        (8193, 2, [(0, 0, 2, 4096), (0, 1, 2, 1), (1, 0, 1, 4096)]),
        (10, 3, [(0, 0, 1, 4), (1, 0, 1, 4), (2, 0, 1, 2)]),
        (2, 5, [(0, 0, 1, 1), (1, 0, 1, 1)]),
    ],
)
def test_shards_are_cut_by_im2recs_rule_and_into_segments(count, shards, segments):
    found = [s for s, _ in cut(keyed(index_of(count), "train", WNIDS), "train", shards, first=7)]
    assert [(s.shard, s.part, s.parts, s.records) for s in found] == segments
    assert [s.number for s in found] == list(range(7, 7 + len(found)))


@given(count=st.integers(1, 300), shards=st.integers(0, 40), seed=st.integers(0, 9))
def test_every_image_is_planned_exactly_once_and_in_order(count, shards, seed):
    table = shuffled(keyed(index_of(count), "train", WNIDS), seed)
    pieces = list(cut(table, "train", shards, first=0))
    keys = [key for _, piece in pieces for key in piece["key"].to_pylist()]
    assert keys == table["key"].to_pylist()
    assert sorted(keys) == list(range(count))
    for segment, piece in pieces:
        assert piece.schema.equals(PLAN, check_metadata=True)
        assert segment.records == piece.num_rows <= SEGMENT_RECORDS
        assert segment.bytes == sum(piece["size"].to_pylist())
        assert set(piece["segment"].to_pylist()) == {segment.number}
        assert set(piece["shard"].to_pylist()) == {segment.shard}


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

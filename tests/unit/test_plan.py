"""Stage plan_shards: every image is planned once, in im2rec's order, whatever fits into memory."""

import json
import random

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.full import planted

from imagenet_etl import buckets, plan
from imagenet_etl.errors import ConfigError, CountMismatch
from imagenet_etl.index import PLAN
from imagenet_etl.pipeline import run_stage
from imagenet_etl.tables import open_parquet, read_table

WNIDS = ["n00000001", "n00000002", "n00000003"]


def images_of(count, seed=0):
    rng = random.Random(seed)
    images = [(rng.choice(WNIDS), f"{number}.JPEG") for number in range(count)]
    return rng.sample(images, count)


def planned(data_dir, images, **changes):
    """Return the plan's table and segments."""
    build = planted(data_dir, images, **changes)
    for name in ("filter_classes", "split_val", "plan_shards"):
        receipt = run_stage(build, name).receipt
    segments = json.loads(build.storage.read(receipt.key_of("segments.json")))
    table = read_table(build.storage, receipt.key_of("plan.parquet"))
    assert table.schema.equals(PLAN, check_metadata=True)
    return table, segments, receipt


def test_keys_number_the_images_of_a_split_by_class_and_file_name(tmp_path):
    images = images_of(300)
    table, _, _ = planned(tmp_path, images, val_images_per_class=20)
    for split, count in (("train", 240), ("val", 60)):
        rows = table.filter(pc.equal(table["split"], split)).sort_by("key").to_pylist()
        names = [(row["wnid"], row["file_name"]) for row in rows]
        assert names == sorted(names)
        assert [row["key"] for row in rows] == list(range(count))
    assert sorted(zip(table["wnid"].to_pylist(), table["file_name"].to_pylist(), strict=True)) == (
        sorted(images)
    )


def test_records_are_packed_in_the_order_of_im2rec(tmp_path):
    table, _, _ = planned(tmp_path, images_of(100))
    order = list(range(100))
    random.Random(100).shuffle(order)
    assert table["key"].to_pylist() == order


def test_labels_count_the_kept_classes_without_a_gap(tmp_path):
    table, _, receipt = planned(tmp_path, images_of(90), drop_classes=(WNIDS[1],))
    assert [entry["wnid"] for entry in receipt.facts["classes"]] == [WNIDS[0], WNIDS[2]]
    found = set(zip(table["wnid"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert found == {(WNIDS[0], 0), (WNIDS[2], 1)}


@settings(max_examples=12, deadline=None)
@given(
    count=st.integers(30, 400),
    shards=st.integers(0, 9),
    val=st.integers(0, 3),
    how=st.sampled_from(["global", "blocks", "none"]),
)
def test_heaps_on_disk_give_the_same_plan(tmp_path_factory, count, shards, val, how):
    asked = {"shards": shards, "val_images_per_class": val, "shuffle": how}
    images = images_of(count)
    table, segments, receipt = planned(tmp_path_factory.mktemp("a"), images, **asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_HEAP_ROWS", 32)
        patch.setattr(buckets, "_IN_MEMORY", 1000)
        again = planned(tmp_path_factory.mktemp("b"), images, **asked)
    assert again[0].equals(table)
    assert again[1] == segments
    assert again[2].digest == receipt.digest
    assert table.num_rows == count
    assert sum(segment["records"] for segment in segments) == count


def test_the_archives_order_makes_no_difference(tmp_path):
    images = images_of(200)
    one, segments, _ = planned(tmp_path / "a", images, val_images_per_class=3)
    other, again, _ = planned(tmp_path / "b", images[::-1], val_images_per_class=3)
    columns = ["segment", "shard", "key", "label", "split", "wnid", "file_name"]
    assert one.select(columns).equals(other.select(columns))
    assert [s["records"] for s in segments] == [s["records"] for s in again]


def test_segments_tell_how_large_their_images_are(tmp_path):
    table, segments, _ = planned(tmp_path, images_of(100), shards=3)
    for segment in segments:
        rows = table.filter(pc.equal(table["segment"], segment["number"]))
        assert segment["bytes"] == pc.sum(rows["size"]).as_py()
        assert set(rows["shard"].to_pylist()) == {segment["shard"]}


def test_the_planned_numbers_are_told_by_split_and_class(tmp_path):
    images = images_of(90)
    _, _, receipt = planned(tmp_path, images, val_images_per_class=4)
    sizes = {wnid: sum(one == wnid for one, _ in images) for wnid in WNIDS}
    assert receipt.facts["planned"] == {
        "train": {wnid: size - 4 for wnid, size in sizes.items()},
        "val": dict.fromkeys(WNIDS, 4),
    }


def test_a_validation_split_cannot_be_made_where_there_is_one(tmp_path):
    build = build_of(tmp_path, tiny_zip(tmp_path), train_ratio=0.5)
    with pytest.raises(ConfigError, match="the dataset has one of its own"):
        run_stages(build, "plan_shards")


def test_a_test_split_can_be_made_of_training_images(tmp_path):
    build = build_of(tmp_path, tiny_zip(tmp_path), train_ratio=0.75, test_ratio=0.25)
    counts = run_stages(build, "plan_shards")["plan_shards"].counts
    assert (counts["test_images"], counts["train_images"], counts["val_images"]) == (3, 9, 6)


def test_the_stage_writes_a_row_group_for_each_segment(tmp_path):
    build = build_of(tmp_path, tiny_zip(tmp_path), shards=5, val_shards=2)
    receipt = run_stages(build, "plan_shards")["plan_shards"]
    segments = json.loads(build.storage.read(receipt.key_of("segments.json")))
    assert [(s["split"], s["shard"], s["records"]) for s in segments] == [
        ("train", 0, 3), ("train", 1, 3), ("train", 2, 3), ("train", 3, 3),
        ("val", 0, 3), ("val", 1, 3),
    ]  # fmt: skip
    with open_parquet(build.storage, receipt.key_of("plan.parquet")) as parquet:
        assert isinstance(parquet, pq.ParquetFile)
        assert parquet.metadata.num_row_groups == len(segments)
        for segment in segments:
            rows = parquet.read_row_group(segment["number"]).to_pylist()
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

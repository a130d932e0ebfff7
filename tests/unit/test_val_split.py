"""Stage split_val: which images are drawn, and what that does not depend on."""

import hashlib
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.full import planted

from imagenet_etl.errors import ConfigError
from imagenet_etl.pipeline import run_stage
from imagenet_etl.tables import read_table
from imagenet_etl.val_split import VAL_FILE, name_hash

WNIDS = ["n00000001", "n00000002", "n00000003"]


def names_of(counts):
    return [
        (w, f"{w}_{n}.JPEG") for w, count in zip(WNIDS, counts, strict=False) for n in range(count)
    ]


def drawn(data_dir, images, count=2, **changes):
    build = planted(data_dir, images, val_images_per_class=count, **changes)
    run_stage(build, "filter_classes")
    receipt = run_stage(build, "split_val").receipt
    table = read_table(build.storage, receipt.key_of(VAL_FILE))
    for row in table.to_pylist():
        assert images[row["row"]] == (row["wnid"], row["file_name"])
    return list(zip(table["wnid"].to_pylist(), table["file_name"].to_pylist(), strict=True))


def test_each_class_gives_the_same_number(tmp_path):
    val = drawn(tmp_path, names_of([9, 5, 30]), count=4)
    assert [wnid for wnid, _ in val] == [wnid for wnid in WNIDS for _ in range(4)]
    assert len(set(val)) == 12


def test_the_order_of_files_makes_no_difference(tmp_path):
    images = names_of([9, 5, 30])
    shuffled = random.Random(1).sample(images, len(images))
    assert drawn(tmp_path / "a", images) == drawn(tmp_path / "b", shuffled)


def test_other_classes_make_no_difference(tmp_path):
    images = names_of([9, 5, 30])
    whole = drawn(tmp_path / "a", images)
    assert drawn(tmp_path / "b", images, min_images_per_class=9) == [
        one for one in whole if one[0] != WNIDS[1]
    ]
    assert drawn(tmp_path / "c", [i for i in images if i[0] == WNIDS[2]]) == whole[4:]


def test_another_seed_draws_others(tmp_path):
    images = names_of([50, 50])
    assert drawn(tmp_path / "a", images, count=10) != drawn(
        tmp_path / "b", images, count=10, seed=7
    )


@settings(max_examples=15, deadline=None)
@given(kept=st.sets(st.integers(0, 24), min_size=6), added=st.integers(0, 6))
def test_a_release_changes_no_more_images_than_it_adds_or_removes(tmp_path_factory, kept, added):
    old = names_of([25])
    new = [old[n] for n in sorted(kept)] + [(WNIDS[0], f"new_{n}.JPEG") for n in range(added)]
    before = set(drawn(tmp_path_factory.mktemp("a"), old, count=5))
    after = set(drawn(tmp_path_factory.mktemp("b"), new, count=5))
    assert len(before - after) <= (len(old) - len(kept)) + added


def test_the_rule_can_be_repeated_with_hashlib_alone(tmp_path):
    images = names_of([20])

    def rank(image):
        key = (100).to_bytes(8, "little")
        return hashlib.blake2b("/".join(image).encode(), key=key, digest_size=8).digest()

    assert drawn(tmp_path, images, count=6) == sorted(sorted(images, key=rank)[:6])


def test_hashes_are_read_big_endian():
    key = (5).to_bytes(8, "little")
    digest = hashlib.blake2b(b"a/b", key=key, digest_size=8).digest()
    assert int(name_hash(pa.chunked_array([["a/b"]]), 5)[0]) == int.from_bytes(digest, "big")


def test_a_class_that_would_lose_all_its_training_images_is_named(tmp_path):
    with pytest.raises(ConfigError, match="class n00000002 has 3 images: 3 of them"):
        drawn(tmp_path, names_of([9, 3]), count=3)


def test_nothing_is_drawn_when_none_are_asked_for(tmp_path):
    build = planted(tmp_path, names_of([9, 3]))
    run_stage(build, "filter_classes")
    outcome = run_stage(build, "split_val")
    assert outcome.idle
    assert outcome.receipt.outputs == ()

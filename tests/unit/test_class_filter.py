"""Stage filter_classes: which classes stay, and that their labels leave no gap."""

from pathlib import Path

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.full import planted

from imagenet_etl.class_filter import why_not_filtered
from imagenet_etl.config import Settings
from imagenet_etl.errors import ConfigError
from imagenet_etl.pipeline import run_stage
from imagenet_etl.tables import read_table

ONE, TWO, THREE = (f"n0000000{number}" for number in (1, 2, 3))


def filtered(tmp_path: Path, **settings):
    """Run up to filter_classes; return its receipt, that of the stage before, and the index."""
    (tmp_path / "site").mkdir()
    build = build_of(tmp_path, tiny_zip(tmp_path / "site"), **settings)
    receipts = run_stages(build, "filter_classes")
    receipt = receipts["filter_classes"]
    index = read_table(build.storage, receipt.key_of("images.parquet"))
    return receipt, receipts["restructure_val"], index


def wnids(receipt):
    return [entry["wnid"] for entry in receipt.facts["classes"]]


def test_by_default_the_index_is_passed_on_without_a_copy(tmp_path):
    receipt, before, _ = filtered(tmp_path)
    assert receipt.key_of("images.parquet") == before.key_of("images.parquet")
    assert receipt.counts == {"kept_classes": 3, "dropped_classes": 0, "dropped_images": 0}


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"keep_classes": (THREE, ONE)}, [ONE, THREE]),
        ({"drop_classes": (ONE,)}, [TWO, THREE]),
        ({"keep_classes": (ONE, TWO), "drop_classes": (THREE,)}, [ONE, TWO]),
    ],
)
def test_only_the_images_of_kept_classes_stay(tmp_path, settings, kept):
    receipt, before, index = filtered(tmp_path, **settings)
    assert wnids(receipt) == kept
    assert receipt.facts["dropped"] == [
        {"wnid": wnid, "images": 6} for wnid in wnids(before) if wnid not in kept
    ]
    assert set(index["wnid"].drop_null().to_pylist()) == {ONE, TWO, THREE}, "to be undone"
    assert receipt.counts["dropped_images"] == 6 * (3 - len(kept))


def with_sizes(tmp_path: Path, **settings):
    """Filter classes of 3, 2 and 1 images."""
    names = [(ONE, "a"), (ONE, "b"), (ONE, "c"), (TWO, "a"), (TWO, "b"), (THREE, "a")]
    build = planted(tmp_path, names, **settings)
    return run_stage(build, "filter_classes").receipt


@pytest.mark.parametrize(
    ("least", "kept"),
    [(0, [ONE, TWO, THREE]), (1, [ONE, TWO, THREE]), (2, [ONE, TWO]), (3, [ONE])],
)
def test_classes_with_fewer_images_are_left_out(tmp_path, least, kept):
    receipt = with_sizes(tmp_path, min_images_per_class=least)
    assert wnids(receipt) == kept
    assert receipt.facts["dropped"] == [
        {"wnid": wnid, "images": count}
        for wnid, count in ((TWO, 2), (THREE, 1))
        if wnid not in kept
    ]


def test_a_small_class_stays_when_it_is_kept_by_name(tmp_path):
    receipt = with_sizes(tmp_path, min_images_per_class=3, keep_classes=(ONE, THREE))
    assert wnids(receipt) == [ONE, THREE]


def test_a_large_class_goes_when_it_is_dropped_by_name(tmp_path):
    assert wnids(with_sizes(tmp_path, min_images_per_class=2, drop_classes=(ONE,))) == [TWO]


def test_a_minimum_that_no_class_meets_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no class is left: expected one with 4 images or more"):
        with_sizes(tmp_path, min_images_per_class=4)


def test_a_class_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="has no class n99999999"):
        filtered(tmp_path, keep_classes=(ONE, "n99999999"))


def test_dropping_all_of_them_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no class is left"):
        filtered(tmp_path, drop_classes=(ONE, TWO, THREE))


@pytest.mark.parametrize("name", ["keep_classes", "drop_classes"])
def test_what_is_no_wnid_is_refused_before_anything_is_read(name):
    with pytest.raises(ConfigError, match=f"setting {name}"):
        Settings("tiny_imagenet", "/data", **{name: ("panda",)})


def test_keeping_and_dropping_one_class_is_refused():
    with pytest.raises(ConfigError, match="n00000001"):
        Settings("tiny_imagenet", "/data", keep_classes=(ONE,), drop_classes=(ONE,))


def test_the_order_of_a_list_makes_no_difference():
    one = Settings("tiny_imagenet", "/data", keep_classes=(TWO, ONE, TWO))
    assert one == Settings("tiny_imagenet", "/data", keep_classes=(ONE, TWO))


def test_idle_is_told_only_when_nothing_is_asked_for():
    assert "all classes stay" in why_not_filtered(Settings("tiny_imagenet", "/data"))
    assert why_not_filtered(Settings("tiny_imagenet", "/data", drop_classes=(ONE,))) == ""

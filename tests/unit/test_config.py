"""The settings: every bound holds, and every refusal names its setting."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.build import new_build
from imagenet_etl.config import BOUNDS, EXPECTATIONS, FORMATS, Settings
from imagenet_etl.errors import ConfigError
from imagenet_etl.images.spec import SUBSAMPLINGS, parse_image_spec
from imagenet_etl.leases import Owner


def make(**changes) -> Settings:
    return Settings(**{"dataset": "tiny_imagenet", "data_dir": "/data"} | changes)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_number_may_lie_on_its_bounds_and_not_beyond(name):
    low, high = BOUNDS[name]
    for value in (low, high):
        assert getattr(make(**{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ConfigError, match=rf"setting {name}: expected {low} to {high}"):
            make(**{name: value})


@pytest.mark.parametrize("name", [*BOUNDS, "max_bad"])
@pytest.mark.parametrize("value", ["90", 1.5, True, "", [1]])
def test_a_number_that_is_none_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"setting {name}: expected a whole number"):
        make(**{name: value})


@pytest.mark.parametrize("name", BOUNDS)
def test_a_number_may_not_be_missing(name):
    with pytest.raises(ConfigError, match=f"setting {name}"):
        make(**{name: None})


@pytest.mark.parametrize(
    "name",
    [
        "dataset",
        "data_dir",
        "version",
        "resize",
        "subsampling",
        "expect",
        "s3_uri",
        "s3_storage_class",
        "s3_kms_key",
        "ebs_volume_id",
        "snapshot_kms_key",
    ],
)
@pytest.mark.parametrize("value", [None, 5, ["a"]])
def test_a_text_that_is_none_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"setting {name}: expected text"):
        make(**{name: value})


@pytest.mark.parametrize(
    "name",
    ["upscale", "center_crop", "png", "im2rec_compat", "allow_loose_files", "from_backup",
     "freeze", "accept_licence", "prune"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["false", 0, None])
def test_a_switch_is_true_or_false(name, value):
    with pytest.raises(ConfigError, match=f"setting {name}"):
        make(**{name: value})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("data_dir", ["/data", "s3://bucket/x"], ["", "relative", "./data", "~/data"]),
        (
            "formats",
            [*([name] for name in FORMATS), ["lmdb:squash:224x224:q90", "recordio"]],
            [(), ["tfrecord"], "recordio", None, [5], ["recordio", "recordio:q80"], [":q80"],
             ["lmdb:"]],
        ),
        ("subsampling", SUBSAMPLINGS, ["", "4:2:0", "411"]),
        ("train_ratio", [0, 0.5, 1, 1.0], [-0.1, 1.1, "1", None, True]),
        ("test_ratio", [0, 0.0], [0.1, -1, "0", None]),
        ("expect", EXPECTATIONS, ["", "anything"]),
        (
            "version",
            ["", "v1", "2024-01.a_b", "A" * 64, "registry"],
            ["A" * 65, ".hidden", "-x", "a/b", "a b", "ü", "..", "v1\n", "registry.json",
             "catalog.json", "archives"],
        ),
        ("max_bad", [None, 0, 10**9], [-1]),
        (
            "ebs_volume_id",
            ["", "vol-0a1b2c3d", "vol-0123456789abcdef0"],
            ["vol-", "vol-XYZ", "snap-0a1b2c3d", "vol-0a1b2c3", "vol-0a1b2c3d\n"],
        ),
        (
            "s3_uri",
            ["", "s3://bucket", "s3://my.bucket-1/some/prefix/"],
            ["bucket", "http://bucket/x", "s3://", "s3://Bucket", "s3://a", "s3://a..b/x",
             "s3://bucket/a\nb"],
        ),
        ("back_up", [(), ["dataset"], ["archives", "dataset"]], ["all", ["index"], None]),
        ("s3_storage_class", ["STANDARD", "GLACIER_IR"], ["", "GLACIER", "DEEP_ARCHIVE"]),
        (
            "s3_tags",
            [{}, {"team": "vision", "cost centre": ""}],
            [None, ["team=vision"], {"team": 1}, {str(i): "" for i in range(11)}],
        ),
        (
            "snapshot_regions",
            [(), ["eu-central-1", "us-gov-west-1", "ap-southeast-3"]],
            ["eu-central-1", ["Frankfurt"], ["eu-central-1a"], ["eu-central-1\n"]],
        ),
        ("share_with", [(), ["123456789012"]], [["all"], ["1234"], ["123456789012\n"], [123]]),
        (
            "resize",
            ["none", "short_edge:1", "long_edge:7", "squash:64x48", "crop:9999x9999", "fill:1x1",
             "half_crop:9x9"],
            ["", "64", "short_edge:0", "short_edge:10000", "crop:64", "squash:0x64", "fit:1x1"],
        ),
        (
            "sources",
            [{}, {"a.zip": "/x/a.zip"}, {"a.zip": "https://host/a.zip"}],
            [None, "a.zip=/x", ["a.zip"], {"a.zip": None}, {1: "x"}, {"a.zip": "a.zip"}],
        ),
    ],
)  # fmt: skip
def test_a_setting_takes_its_values_and_no_other(name, good, bad):
    for value in good:
        assert make(**{name: value}) == make(**{name: value})
    for value in bad:
        with pytest.raises(ConfigError, match=f"setting {name}"):
            make(**{name: value})


def test_formats_have_one_order_and_no_duplicates():
    both = ("recordio", "imagefolder")
    assert make(formats=both[::-1]) == make(formats=both) == make(formats=[*both, "recordio"])


def test_outputs_take_from_the_common_settings_what_they_do_not_say():
    settings = make(
        formats=["recordio:short_edge:480", "lmdb:squash:224x224:q80:upscale", "webdataset"],
        resize="short_edge:256", quality=95, subsampling="444",
    )  # fmt: skip
    common = parse_image_spec("short_edge:256:q95:444")
    assert settings.outputs == {
        "recordio": parse_image_spec("short_edge:480:q95:444"),
        "lmdb": parse_image_spec("squash:224x224:q80:444:upscale"),
        "webdataset": common,
    }
    assert list(settings.outputs) == ["recordio", "lmdb", "webdataset"]


def test_what_decides_the_images_is_the_same_whichever_way_it_is_said():
    one = make(formats=["recordio:short_edge:480:q80", "lmdb:png"], resize="none")
    two = make(formats=["lmdb:none:q90:png", "recordio:q80"], resize="short_edge:480")
    assert one.select(("outputs",)) == two.select(("outputs",))


def test_an_output_with_a_wrong_image_setting_is_refused():
    with pytest.raises(ConfigError, match="q101"):
        make(formats=["recordio:q101"])


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        make().quality = 50  # type: ignore[misc]


def test_select_gives_the_named_settings_json_ready():
    chosen = make(formats=("recordio",), quality=80).select(("formats", "quality"))
    assert json.loads(json.dumps(chosen)) == {"formats": ["recordio"], "quality": 80}


def test_workers_default_to_the_cores_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert make().worker_count() == 3
    assert make(workers=7).worker_count() == 7


@pytest.mark.parametrize(("expected", "budget"), [(1, 1), (9_999, 1), (19_999, 1), (100_000, 10)])
def test_the_default_budget_is_a_ten_thousandth_and_at_least_one(expected, budget):
    assert make().max_bad_of(expected) == budget
    assert make(max_bad=0).max_bad_of(expected) == 0
    assert make(max_bad=42).max_bad_of(expected) == 42


@given(
    st.builds(
        make,
        **{name: st.integers(low, high) for name, (low, high) in BOUNDS.items()},
        version=st.from_regex(r"v[A-Za-z0-9._-]{0,20}", fullmatch=True),
        formats=st.lists(st.sampled_from(FORMATS), min_size=1, unique=True),
        sources=st.dictionaries(st.text(), st.text().map("/{}".format), max_size=3),
        upscale=st.booleans(),
        max_bad=st.none() | st.integers(0),
    )
)
def test_settings_survive_json(settings):
    assert Settings.from_json(json.dumps(settings.to_json())) == settings


def test_unknown_and_missing_names_are_told():
    values = make().to_json()
    with pytest.raises(ConfigError, match="unknown settings: colour, qualty"):
        Settings.from_json(json.dumps(values | {"qualty": 90, "colour": 1}))
    del values["data_dir"]
    with pytest.raises(ConfigError, match="missing settings: data_dir"):
        Settings.from_json(json.dumps(values))


def test_a_record_without_the_newer_settings_takes_their_defaults():
    record = json.dumps({"dataset": "tiny_imagenet", "data_dir": "/data"})
    assert Settings.from_json(record) == make()


def test_a_canvas_larger_than_any_image_may_be_is_refused():
    settings = make(resize="fill:9999x9999")
    with pytest.raises(ConfigError, match="images of recordio would have 9999x9999 pixels"):
        new_build(settings, Owner("run"), lambda _: None)

"""One schema and one merge, whatever keeps it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.datastore.helpers import entry

from imagenet_etl.datastore.catalog import Catalog, merge_entry, parse_catalog
from imagenet_etl.errors import DatasetDamaged, SchemaTooNew

times = st.floats(0, 2e9)
maybe = st.fixed_dictionaries(
    {},
    optional={
        "s3_uri": st.just("s3://b/x"),
        "snapshots": st.dictionaries(st.sampled_from(["eu-west-1", "us-east-1"]), st.just("snap")),
        "shared_with": st.lists(st.sampled_from(["1", "2", "3"]), unique=True).map(sorted),
    },
)
entries = st.builds(lambda at, more: entry(at=at, **more), times, maybe)


@given(entries, entries)
def test_merging_again_changes_nothing_and_loses_nothing(one, two):
    merged = merge_entry(one, two)
    assert merge_entry(merged, two) == merged
    assert merge_entry(merged, one) == merged
    for name in ("snapshots", "shared_with"):
        assert set(merged.get(name, ())) == {*one.get(name, ()), *two.get(name, ())}


@given(st.lists(st.tuples(st.sampled_from(["v1", "v2", "v3"]), entries)))
def test_what_is_written_is_read(items):
    catalog = Catalog("x")
    for version, item in items:
        catalog = catalog.with_entry(version, item)
    assert parse_catalog(catalog.to_json(), "x", "x") == catalog
    assert json.loads(catalog.to_json())["latest"] == catalog.latest


def test_other_content_takes_the_place_of_what_bore_its_name():
    known = entry("aa", s3_uri="s3://b/x")
    assert merge_entry(known, entry("bb")) == entry("bb")


def test_version_that_was_being_removed_has_lost_its_copies():
    known = entry("aa", s3_uri="s3://b/x", removing=True)
    assert merge_entry(known, entry("aa")) == entry("aa")


def test_newest_is_latest_unless_it_is_being_removed():
    catalog = Catalog("x").with_entry("old", entry(at=1)).with_entry("new", entry(at=3))
    catalog = catalog.with_entry("middle", entry(at=2))
    assert catalog.newest_first == ["new", "middle", "old"]
    assert catalog.with_entry("new", entry(at=3, removing=True)).latest == "middle"
    assert Catalog("x").latest == ""


def test_of_equal_times_the_later_entered_is_newer():
    catalog = Catalog("x").with_entry("v1", entry(at=0)).with_entry("v2", entry(at=0))
    assert catalog.latest == "v2"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"schema_version": 2, "versions": {"v": 1}}'])
def test_damage_is_named(data):
    with pytest.raises(DatasetDamaged, match=r"catalog\.json is damaged"):
        parse_catalog(data, "s3://b/catalog.json", "x")


def test_newer_schema_is_refused():
    with pytest.raises(SchemaTooNew):
        parse_catalog(b'{"schema_version": 3}', "x", "x")

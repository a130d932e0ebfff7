"""Packing in groups beside what is published already."""

import shutil
from pathlib import Path

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.errors import VersionConflict
from imagenet_etl.pipeline import groups_to_pack, run_pack_group
from imagenet_etl.selection import MAX_GROUPS, Group, groups_of

NOTHING = {"segments": 0, "images": 0, "quarantined": 0}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tiny_zip(tmp_path / "site")


def test_a_published_version_is_not_packed_again_when_its_receipts_are_gone(tmp_path, archive):
    build = build_of(tmp_path, archive, version="v1")
    run_stages(build)
    shutil.rmtree(tmp_path / "data/work")
    run_stages(build, "plan_shards")
    assert run_pack_group(build, Group(1, 1)) == NOTHING
    assert not list((tmp_path / "data/work").rglob("segments/*.json"))


def test_a_taken_version_is_told_before_anything_is_packed(tmp_path, archive):
    run_stages(build_of(tmp_path, archive, version="v1"))
    other = build_of(tmp_path, archive, version="v1", seed=7)
    run_stages(other, "plan_shards")
    with pytest.raises(VersionConflict, match="published with other content"):
        run_pack_group(other, Group(1, 1))


def test_there_is_nothing_to_share_out_when_all_is_packed(tmp_path, archive):
    build = build_of(tmp_path, archive)
    run_stages(build, "plan_shards")
    assert groups_to_pack(build) == ["1/1"]
    run_stages(build, "pack")
    assert groups_to_pack(build) == []
    assert run_pack_group(build, Group(1, 1)) == NOTHING


@pytest.mark.parametrize(
    ("segments", "groups"), [(1, 1), (16, 1), (17, 2), (326, 21), (3466, 100), (10**6, MAX_GROUPS)]
)
def test_groups_are_of_some_minutes_and_never_too_many(segments, groups):
    shared = groups_of(segments)
    assert len(shared) == groups
    whole = list(range(segments))
    assert sorted(n for group in shared for n in whole[group.number - 1 :: group.count]) == whole

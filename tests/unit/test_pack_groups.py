"""Packing in groups beside what is published already."""

import shutil
from pathlib import Path

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.errors import ConfigError, VersionConflict
from imagenet_etl.mapped import groups_to_pack, run_pack_group
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


def test_a_group_counts_the_loose_files_of_the_whole(tmp_path, archive, monkeypatch):
    build = build_of(tmp_path, archive, formats=("imagefolder",), shards=6)
    run_stages(build, "plan_shards")
    monkeypatch.setattr("imagenet_etl.preflight.loose.MAX_LOOSE_FILES", 17)
    with pytest.raises(ConfigError, match="imagefolder would write 18 loose files"):
        run_pack_group(build, Group(1, 3))
    assert not list((tmp_path / "data/work").rglob("segments/*.json"))


def test_there_is_nothing_to_share_out_when_all_is_packed(tmp_path, archive):
    build = build_of(tmp_path, archive)
    run_stages(build, "plan_shards")
    assert groups_to_pack(build) == ["1/1"]
    run_stages(build, "pack")
    assert groups_to_pack(build) == []
    assert run_pack_group(build, Group(1, 1)) == NOTHING


@pytest.mark.parametrize(
    ("segments", "images", "groups"),
    [
        (1, 1, 1), (16, 65_536, 1), (17, 69_000, 2), (326, 1_331_167, 21), (3, 9_000_000, 3),
        (40, 40, 3),
        (1240, 12_400_000, MAX_GROUPS), (10**6, 10**9, MAX_GROUPS),
    ],
)  # fmt: skip
def test_groups_are_of_some_minutes_and_never_too_many(segments, images, groups):
    shared = groups_of(segments, images)
    assert len(shared) == groups
    whole = list(range(segments))
    assert sorted(n for group in shared for n in whole[group.number - 1 :: group.count]) == whole

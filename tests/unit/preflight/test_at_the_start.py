"""The disk budget at the start of a run."""

import shutil
from pathlib import Path

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.unit.preflight.rooms import Room

from imagenet_etl.errors import NotEnoughSpace
from imagenet_etl.mapped import run_download_of
from imagenet_etl.pipeline import run_stage
from imagenet_etl.publishing import publish_version


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tiny_zip(tmp_path / "site")


def test_a_run_that_would_fill_the_disk_is_refused_before_anything_is_written(
    tmp_path: Path, archive: Path, room: Room
) -> None:
    room.free = 1000
    build = build_of(tmp_path, archive)
    with pytest.raises(NotEnoughSpace, match="too small for this run"):
        run_stage(build, "download")
    with pytest.raises(NotEnoughSpace, match="too small for this run"):
        run_download_of(build, build.facts.archives[0].name)
    assert not (tmp_path / "data").exists()


def test_another_format_of_a_dataset_is_held_against_the_room_too(
    tmp_path: Path, archive: Path, room: Room
) -> None:
    run_stages(build_of(tmp_path, archive))
    room.free = 1000
    with pytest.raises(NotEnoughSpace, match="pack"):
        run_stage(build_of(tmp_path, archive, formats=("webdataset",)), "download")


def test_a_version_that_may_be_the_one_asked_for_is_not_counted_again(
    tmp_path: Path, archive: Path, room: Room
) -> None:
    build = build_of(tmp_path, archive)
    run_stages(build)
    publish_version(build)
    shutil.rmtree(tmp_path / "data/work")
    room.free = 50_000
    run_stage(build, "download")


def test_a_rerun_that_needs_nothing_needs_no_room(
    tmp_path: Path, archive: Path, room: Room
) -> None:
    run_stages(build_of(tmp_path, archive))
    room.free = 0
    assert run_stage(build_of(tmp_path, archive), "download").reused

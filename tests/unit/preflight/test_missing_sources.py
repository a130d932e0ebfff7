"""A source that is wrong or missing is not told as a full disk."""

from pathlib import Path

import pytest
from tests.support.archives import build_of, tiny_zip
from tests.unit.preflight.rooms import WHOLE, MakeBuild, Room

from imagenet_etl.errors import ConfigError, NotEnoughSpace, SourceNotFound
from imagenet_etl.pipeline import run_stage
from imagenet_etl.preflight.archives import LABELS_BYTES
from imagenet_etl.preflight.budget import check_budget, told
from imagenet_etl.preflight.report import preflight_lines

FALL11 = "imagenet_fall11"
TAR = "fall11_whole.tar"
VAL_BYTES = 6_744_924_160


def test_without_a_source_the_download_says_so(make_build: MakeBuild, room: Room) -> None:
    room.free = 0
    build = make_build(FALL11)
    assert not check_budget(build).is_sourced
    with pytest.raises(ConfigError, match="sits behind a login"):
        run_stage(build, "download")


def test_a_path_that_does_not_exist_is_what_is_told(
    tmp_path: Path, make_build: MakeBuild, room: Room
) -> None:
    room.free, room.apart = 0, {"work": 0}
    wrong = {TAR: str(tmp_path / "fal11_whole.tar")}
    with pytest.raises(SourceNotFound, match="fal11_whole"):
        run_stage(make_build(FALL11, sources=wrong), "download")


def test_loose_files_of_a_missing_source_are_no_matter_yet(
    make_build: MakeBuild, room: Room
) -> None:
    check_budget(make_build(FALL11, formats=("imagefolder",), min_images_per_class=0))


def test_the_command_tells_the_published_sizes_all_the_same(
    tmp_path: Path, make_build: MakeBuild, room: Room
) -> None:
    room.free = 0
    for sources in ({}, {TAR: str(tmp_path / TAR)}):
        lines = preflight_lines(make_build(FALL11, sources=sources))
        assert any("pack" in line and "1.32 TB" in line for line in lines)


def test_a_source_that_is_there_is_held_against_the_room(
    tmp_path: Path, make_build: MakeBuild, room: Room
) -> None:
    (tmp_path / "site").mkdir()
    room.free = 0
    with pytest.raises(NotEnoughSpace):
        run_stage(build_of(tmp_path, tiny_zip(tmp_path / "site")), "download")
    with pytest.raises(NotEnoughSpace):
        check_budget(make_build(FALL11, sources=WHOLE))


def test_an_archive_of_unknown_length_beside_a_known_one_makes_a_lower_bound(
    make_build: MakeBuild, room: Room
) -> None:
    sources = {"ILSVRC2012_img_train.tar": "https://mirror.example.org/sample.tar"}
    build = make_build("ilsvrc2012", expect="any", sources=sources, splits=("train", "val"))
    budget = check_budget(build)
    lines = told(budget)
    by_stage = {need.stage: need for need in budget.needs}
    assert by_stage["download"].bytes is None
    assert by_stage["download"].least == VAL_BYTES + LABELS_BYTES
    for stage in ("download", "together"):
        assert [line for line in lines if stage in line and "at least 6.75 GB" in line]
    assert [line for line in lines if "pack" in line and line.endswith("unknown")]
    assert budget.volume_bytes is None
    room.free = 6 * 10**9
    with pytest.raises(NotEnoughSpace, match="too small"):
        check_budget(build)

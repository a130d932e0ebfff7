"""More loose files than anybody wants by accident are refused before anything is written."""

import pytest
from tests.unit.preflight.rooms import MakeBuild, Room

from imagenet_etl.config import MAX_LOOSE_FILES, Settings
from imagenet_etl.errors import ConfigError
from imagenet_etl.preflight.budget import check_budget
from imagenet_etl.preflight.loose import check_loose_files


def test_one_more_than_the_most_is_refused() -> None:
    settings = Settings("tiny_imagenet", "/data")
    check_loose_files(settings, MAX_LOOSE_FILES)
    with pytest.raises(ConfigError) as caught:
        check_loose_files(settings, MAX_LOOSE_FILES + 1)
    assert caught.value.what == "imagefolder would write 250,001 loose files"
    assert caught.value.expected == "at most 250,000"
    assert "--allow-loose-files" in caught.value.remedy


def test_who_allows_them_gets_them() -> None:
    settings = Settings("tiny_imagenet", "/data", allow_loose_files=True)
    check_loose_files(settings, 100 * MAX_LOOSE_FILES)


def test_a_run_is_refused_at_its_start(make_build: MakeBuild, room: Room) -> None:
    formats = ("recordio", "imagefolder")
    with pytest.raises(ConfigError, match="1,331,167 loose files"):
        check_budget(make_build("ilsvrc2012", formats=formats))
    check_budget(make_build("ilsvrc2012", formats=formats, allow_loose_files=True))


def test_few_loose_files_are_no_matter(make_build: MakeBuild, room: Room) -> None:
    check_budget(make_build("ilsvrc2012", formats=("imagefolder",), splits=("val",)))
    check_budget(make_build("tiny_imagenet", formats=("imagefolder",)))

"""What a class filter may take away refuses no run; what is surely written does."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import ARCHIVE, run_stages, tiny_zip
from tests.support.builds import tiny_build
from tests.unit.preflight.rooms import TB, WHOLE, MakeBuild, Room

from imagenet_etl.config import Settings
from imagenet_etl.datasets import facts_of
from imagenet_etl.errors import NotEnoughSpace
from imagenet_etl.preflight.budget import Budget, budget_of, check_budget, told
from imagenet_etl.preflight.needs import Need, sure_share

FALL11 = "imagenet_fall11"
GB = 10**9


def need(budget: Budget, stage: str) -> Need:
    (found,) = [one for one in budget.needs if one.stage == stage]
    return found


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 1.0),
        ({"min_images_per_class": 1}, 1.0),
        ({"min_images_per_class": 2}, 0.85),
        ({"min_images_per_class": 501}, 0.85),
        ({"min_images_per_class": 502}, 0.0),
        ({"min_images_per_class": 501, "expect": "any"}, 0.0),
        ({"expect": "any"}, 1.0),
        ({"keep_classes": ("n01440764",)}, 0.0),
        ({"drop_classes": ("n01440764",), "min_images_per_class": 501}, 0.0),
    ],
)
def test_the_filter_decides_what_is_sure(settings: dict[str, Any], share: float) -> None:
    assert sure_share(facts_of(FALL11), Settings(FALL11, "/data", **settings)) == share


def test_a_rule_on_other_datasets_leaves_nobody_knows_what() -> None:
    # All classes of Tiny ImageNet have 500 training images.
    settings = Settings("tiny_imagenet", "/data", min_images_per_class=501)
    assert sure_share(facts_of("tiny_imagenet"), settings) == 0.0


def test_one_class_of_many_is_not_refused_on_a_small_disk(
    make_build: MakeBuild, room: Room, tmp_path: Path
) -> None:
    sources = {}
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"):
        sources[name] = str(tmp_path / name)
        with (tmp_path / name).open("wb") as file:
            file.truncate(50 * GB)  # holes are as good as bytes here
    build = make_build("ilsvrc2012", sources=sources, keep_classes=("n01440764",))
    room.free = 1 * GB
    budget = check_budget(build)
    assert (need(budget, "pack").bytes or 0) > 100 * GB
    with pytest.raises(NotEnoughSpace, match="too small"):
        check_budget(make_build("ilsvrc2012", sources=sources))


def test_one_class_as_loose_files_is_not_refused(make_build: MakeBuild, room: Room) -> None:
    room.files = 10_000
    named = {"formats": ("imagefolder",), "keep_classes": ("n01440764",)}
    budget = check_budget(make_build("ilsvrc2012", **named))
    assert need(budget, "pack").files == 1_331_167


def test_the_published_rule_is_refused_on_a_disk_that_is_far_too_small(
    make_build: MakeBuild, room: Room
) -> None:
    build = make_build(FALL11, sources=WHOLE)
    room.free = 2 * TB
    with pytest.raises(NotEnoughSpace) as caught:
        check_budget(build)
    assert caught.value.expected.startswith("at least 2.43 TB free (download 1.31 TB, ")
    assert "pack 1.12 TB" in caught.value.expected
    room.free = int(2.5 * TB)  # between what is sure and the upper bound
    assert any("together" in line and "2.63 TB" in line for line in told(check_budget(build)))


def test_with_a_plan_all_of_it_is_sure(room: Room, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    sample = tiny_zip(tmp_path / "given")
    values = {"expect": "any", "workers": 1, "sources": {ARCHIVE: str(sample)}}
    build = tiny_build(tmp_path / "data", **values, drop_classes=("n00000001",))
    before = need(budget_of(build), "pack")
    assert before.least == 0
    run_stages(build, "plan_shards")
    planned = need(budget_of(build), "pack")
    assert 0 < planned.least == planned.bytes < (before.bytes or 0)
    room.free = planned.least - 1
    with pytest.raises(NotEnoughSpace, match="too small"):
        check_budget(build)

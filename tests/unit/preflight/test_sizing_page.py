"""``docs/sizing.md`` tells what the code reckons with."""

from pathlib import Path

import pytest
from tests.unit.preflight.rooms import MakeBuild, Room

from imagenet_etl.preflight.budget import budget_of

PAGE = Path(__file__).resolve().parents[3] / "docs/sizing.md"
DATASETS = ("tiny_imagenet", "ilsvrc2012", "imagenet_fall11", "imagenet_winter21")
ROW = "| **Volume for archive, tables and RecordIO** |"


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_volumes_to_have_are_those_of_the_budget(
    make_build: MakeBuild, room: Room, dataset: str
) -> None:
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(ROW)]
    told = row.removeprefix(ROW).split("|")[DATASETS.index(dataset)].strip(" *")
    volume = budget_of(make_build(dataset)).volume_bytes
    assert volume is not None
    assert told == f"{volume >> 30:,} GiB"

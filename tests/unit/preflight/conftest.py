"""Disks of any size for budgets, and builds of any dataset."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.builds import no_aws
from tests.unit.preflight.rooms import MakeBuild, Room

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import facts_of
from imagenet_etl.leases import Owner
from imagenet_etl.preflight import disks


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    there = Room()
    monkeypatch.setattr(disks, "disk_of", there.disk_of)
    return there


@pytest.fixture
def make_build(tmp_path: Path) -> MakeBuild:
    def make(dataset: str, **settings: Any) -> Build:
        values = {"data_dir": str(tmp_path / "data"), **facts_of(dataset).defaults, **settings}
        return new_build(Settings(dataset=dataset, **values), Owner("run-1"), no_aws)

    return make

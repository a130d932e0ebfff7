"""Fault 38: a try that was given up wakes up in the middle of a stage that its retry has done."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.support.archives import tiny_zip
from tests.support.asleep import asleep_in
from tests.support.builds import no_aws

from imagenet_etl import joining, verify
from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.errors import LeaseLost
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage

TO_PACK = ("download", "untar", "restructure_val", "filter_classes", "plan_shards")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "publisher"
    folder.mkdir()
    return tiny_zip(folder)


@pytest.fixture
def build(archive: Path, tmp_path: Path) -> Callable[[str, int], Build]:
    def of(claim: str, attempt: int) -> Build:
        settings = Settings(
            dataset="tiny_imagenet", data_dir=str(tmp_path / "data"), expect="any", workers=1,
            version="v1", formats=("recordio", "lmdb"), sources={archive.name: str(archive)},
        )  # fmt: skip
        return new_build(settings, Owner("run-1", claim, attempt), no_aws)

    return of


def do(build: Callable[[str, int], Build], stage: str, attempt: int = 1) -> None:
    with build(stage, attempt).locked(hand_on=True) as held:
        run_stage(held, stage)


def test_38_a_stale_verify_does_not_drop_what_its_retry_has_published(
    build: Callable[[str, int], Build], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in (*TO_PACK, "pack"):
        do(build, stage)
    with asleep_in({verify: ("check_tree",)}, monkeypatch, lambda _: do(build, "verify")) as zombie:
        do(build, "verify", attempt=2)
        published = files_below(tmp_path / "data/datasets")
    assert isinstance(zombie.ended[0], LeaseLost)
    assert files_below(tmp_path / "data/datasets") == published
    do(build, "report")


def test_38_a_stale_assembly_leaves_nothing_behind(
    build: Callable[[str, int], Build], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in TO_PACK:
        do(build, stage)
    with asleep_in({joining.NewTree: ("add",)}, monkeypatch, lambda _: do(build, "pack")) as zombie:
        do(build, "pack", attempt=2)
        do(build, "verify")
        (folder,) = (tmp_path / "data/work/tiny_imagenet/pack").iterdir()
        before = files_below(folder)
    assert isinstance(zombie.ended[0], LeaseLost)
    assert files_below(folder) == before
    do(build, "report")

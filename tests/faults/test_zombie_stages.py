"""Fault 38: a try that was given up wakes up in the middle of a stage that its retry has done."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_runs import files_below
from tests.support.archives import tiny_zip
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


@contextmanager
def asleep_in(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]
) -> Iterator[list[BaseException | None]]:
    """Start a try that falls asleep when it calls ``owner.name``; it wakes up with the block's end.

    Yields a list that gets what the try has ended in.
    """
    real, begun, go_on = getattr(owner, name), threading.Event(), threading.Event()
    ended: list[BaseException | None] = []

    def sleepy(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is zombie and not begun.is_set():
            begun.set()
            go_on.wait(60)
        return real(*args, **kwargs)

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the test
            ended.append(error)
        else:
            ended.append(None)

    zombie = threading.Thread(target=run)
    monkeypatch.setattr(owner, name, sleepy)
    zombie.start()
    assert begun.wait(60)
    try:
        yield ended
    finally:
        go_on.set()
        zombie.join(60)


def test_38_a_stale_verify_does_not_drop_what_its_retry_has_published(
    build: Callable[[str, int], Build], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in (*TO_PACK, "pack"):
        do(build, stage)
    with asleep_in(verify, "check_tree", monkeypatch, lambda: do(build, "verify")) as ended:
        do(build, "verify", attempt=2)
        published = files_below(tmp_path / "data/datasets")
    assert isinstance(ended[0], LeaseLost)
    assert files_below(tmp_path / "data/datasets") == published
    do(build, "report")


def test_38_a_stale_assembly_leaves_nothing_behind(
    build: Callable[[str, int], Build], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in TO_PACK:
        do(build, stage)
    with asleep_in(joining.NewTree, "add", monkeypatch, lambda: do(build, "pack")) as ended:
        do(build, "pack", attempt=2)
        do(build, "verify")
        (folder,) = (tmp_path / "data/work/tiny_imagenet/pack").iterdir()
        before = files_below(folder)
    assert isinstance(ended[0], LeaseLost)
    assert files_below(folder) == before
    do(build, "report")

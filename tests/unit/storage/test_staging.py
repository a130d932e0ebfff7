"""Staging folders: one for each process, swept when their owner is dead, kept while it lives."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support import children
from tests.support.storages import KINDS, describe_new, opened, staged

from imagenet_etl.processes import this_process

pytestmark = pytest.mark.usefixtures("temporary_folder")


def test_staging_is_one_folder_until_it_is_closed(storage):
    with ThreadPoolExecutor(8) as executor:
        folders = set(executor.map(lambda _: storage.staging(), range(8)))
    assert len(folders) == 1
    path = staged(storage, b"left over")
    storage.keep_staging_alive()
    storage.close_staging()
    assert not path.parent.exists()
    assert storage.staging() != path.parent


def test_a_storage_that_never_staged_has_nothing_to_close(storage):
    storage.keep_staging_alive()
    storage.close_staging()
    assert storage.sweep_staging() == 0


STAGE_AND_WAIT = """
    import sys
    from tests.support.storages import open_described
    storage = open_described(sys.argv[1])
    folder = storage.staging()
    (folder / "half").write_bytes(b"x" * 100)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_staging_of_the_dead_is_swept_and_of_the_living_kept(kind, tmp_path, moto):
    description = describe_new(kind, tmp_path, moto)
    with (
        opened(description) as storage,
        children.python(STAGE_AND_WAIT, description) as first,
        children.python(STAGE_AND_WAIT, description) as second,
    ):
        mine, dead, alive = (
            storage.staging(),
            Path(children.told(first)),
            Path(children.told(second)),
        )
        assert storage.sweep_staging() == 0
        first.kill()
        first.wait()
        assert storage.sweep_staging() == 1
        assert not dead.exists()
        assert (alive / "half").exists()
        assert mine.exists()


def test_staging_of_a_living_process_here_is_kept_however_old(folder):
    with children.python(STAGE_AND_WAIT, folder.url) as child:
        staging = Path(children.told(child))
        os.utime(staging, (0, 0))
        assert folder.sweep_staging() == 0
        assert staging.exists()


def test_staging_of_another_host_is_judged_by_its_age(folder):
    owner = this_process().to_dict() | {"host": "elsewhere"}
    staging = folder.root / ".staging" / "elsewhere-1"
    staging.mkdir(parents=True)
    (staging / "owner.json").write_text(json.dumps(owner))
    assert folder.sweep_staging() == 0
    os.utime(staging, (time.time() - 3700,) * 2)
    assert folder.sweep_staging() == 1
    assert not staging.exists()


@pytest.mark.parametrize("owner", [None, "", '{"pid": 1', '{"pid": 1}'])
def test_staging_whose_owner_died_before_it_said_who_it_is_goes_when_old(folder, owner):
    staging = folder.root / ".staging" / "half-made"
    staging.mkdir(parents=True)
    if owner is not None:
        (staging / "owner.json").write_text(owner)
    assert folder.sweep_staging() == 0
    os.utime(staging, (time.time() - 3700,) * 2)
    assert folder.sweep_staging() == 1

"""What becomes of fetched archives once a version is verified."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.archives import ARCHIVE, STAGES, build_of, run_stages, tiny_zip
from tests.support.builds import tiny_build
from tests.support.fault_server import FaultServer
from tests.support.moto_server import MotoServer
from tests.support.winter21 import count_as_large, packed_sample, tars_of, winter21_build

from imagenet_etl.build import Build
from imagenet_etl.errors import StageNotDone
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import receipts_up_to, run_stage
from imagenet_etl.preflight.archives import known_archives
from imagenet_etl.preflight.on_volume import archives_found, archives_planned
from imagenet_etl.publishing import publish_version
from imagenet_etl.verify import verify_folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    (tmp_path / "site").mkdir()
    with FaultServer(tiny_zip(tmp_path / "site").read_bytes()) as running:
        yield running


def fetched(tmp_path: Path, server: FaultServer, keep: str, **settings: object) -> Build:
    """Return a build whose archive comes from the server."""
    digest = hashlib.sha256(server.content).hexdigest()
    sources = {ARCHIVE: f"{server.url}#sha256={digest}"}
    values = {"expect": "any", "workers": 1, "sources": sources, "keep_archives": keep}
    return tiny_build(tmp_path / "data", **values | settings)


def with_backup(tmp_path: Path, server: FaultServer, moto: MotoServer, *back_up: str) -> Build:
    """Return such a build that lets archives go after a backup of what is named."""
    moto.bucket("backups")
    settings = {"s3_uri": "s3://backups/x", "back_up": back_up}
    return replace(fetched(tmp_path, server, "after_backup", **settings), aws=moto.client)


def archive_of(build: Build) -> Path | None:
    """Return the fetched archive, if it is there."""
    root = Path(build.settings.data_dir, "archives")
    return next((path for path in root.rglob(ARCHIVE)), None)


def published(build: Build) -> Path:
    receipts = run_stages(build, STAGES[-1])
    publish_version(build)
    return Path(receipts["verify"].facts["path"])


def test_always_keeps_them(tmp_path: Path, server: FaultServer) -> None:
    build = fetched(tmp_path, server, "always")
    published(build)
    assert archive_of(build) is not None


def test_never_lets_them_go_and_reruns_find_nothing_to_do(
    tmp_path: Path, server: FaultServer
) -> None:
    build = fetched(tmp_path, server, "never")
    version = published(build)
    assert archive_of(build) is None
    assert list(Path(build.settings.data_dir, "archives").rglob("*.receipt.json"))
    requests = len(server.requests)
    assert all(run_stage(build, name).reused for name in STAGES)
    publish_version(build)
    assert len(server.requests) == requests
    assert verify_folder(version)["records"] == 18


def test_nothing_is_let_go_before_the_version_is_verified(
    tmp_path: Path, server: FaultServer
) -> None:
    build = fetched(tmp_path, server, "never")
    run_stages(build, "pack")
    with pytest.raises(StageNotDone, match="stage verify"):
        publish_version(build)
    assert archive_of(build) is not None


def test_after_backup_waits_for_the_backup(
    tmp_path: Path, server: FaultServer, moto: MotoServer
) -> None:
    build = with_backup(tmp_path, server, moto, "dataset", "archives")
    published(build)
    assert archive_of(build) is not None
    run_stage(build, "back_up_to_s3")
    publish_version(build)
    assert archive_of(build) is None


def test_after_backup_keeps_what_was_not_backed_up_and_tells_the_remedy(
    tmp_path: Path, server: FaultServer, moto: MotoServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    build = with_backup(tmp_path, server, moto, "dataset")
    published(build)
    run_stage(build, "back_up_to_s3")
    publish_version(build)
    assert archive_of(build) is not None
    assert "--back-up dataset --back-up archives" in caplog.text


def test_archives_that_were_let_go_after_their_backup_come_from_there_on_a_fresh_machine(
    tmp_path: Path, server: FaultServer, moto: MotoServer
) -> None:
    build = with_backup(tmp_path, server, moto, "dataset", "archives")
    published(build)
    run_stage(build, "back_up_to_s3")
    publish_version(build)
    requests = len(server.requests)
    other = with_backup(tmp_path / "other", server, moto, "dataset", "archives")
    run_stage(other, "download")
    assert archive_of(other) is not None
    assert len(server.requests) == requests


def test_a_setting_that_needs_the_images_again_fetches_them_again(
    tmp_path: Path, server: FaultServer
) -> None:
    first = published(fetched(tmp_path, server, "never", resize="short_edge:32"))
    build = fetched(tmp_path, server, "never", resize="short_edge:32", quality=40)
    reused = [name for name in STAGES if run_stage(build, name).reused]
    assert reused == ["untar", "restructure_val", "filter_classes", "plan_shards"]
    publish_version(build)
    assert archive_of(build) is None
    versions = [path for path in first.parent.iterdir() if path.is_dir()]
    assert len(versions) == 2
    assert all(verify_folder(path)["records"] == 18 for path in versions)


def test_equal_bytes_that_were_fetched_again_leave_other_settings_nothing_to_do(
    tmp_path: Path, server: FaultServer
) -> None:
    whole = fetched(tmp_path, server, "never")
    published(whole)
    published(fetched(tmp_path, server, "never", splits=("train",)))
    requests = len(server.requests)
    assert requests == 2
    assert all(run_stage(whole, name).reused for name in STAGES)
    publish_version(whole)
    assert len(server.requests) == requests


def test_an_archive_that_another_run_may_read_stays_until_the_next_run(
    tmp_path: Path, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reader = replace(fetched(tmp_path, server, "always", quality=40), owner=Owner("the-reader"))
    build = fetched(tmp_path, server, "never")
    with reader.locked() as reading:
        for name in STAGES[: STAGES.index("pack")]:
            run_stage(reading, name)
        published(build)
        assert archive_of(build) is not None
        assert "since run 'the-reader' may read them" in caplog.text
        run_stage(reading, "pack")
    publish_version(build)
    assert archive_of(build) is None


def test_a_reader_between_two_tasks_keeps_the_archive(tmp_path: Path, server: FaultServer) -> None:
    reader = replace(fetched(tmp_path, server, "always", quality=40), owner=Owner("the-reader"))
    with reader.locked(hand_on=True) as reading:
        run_stage(reading, "download")
    build = fetched(tmp_path, server, "never")
    published(build)
    assert archive_of(build) is not None


def test_the_lock_of_the_run_itself_keeps_nothing(tmp_path: Path, server: FaultServer) -> None:
    build = fetched(tmp_path, server, "never")
    run_stages(build)
    with build.locked() as mine:
        publish_version(mine)
    assert archive_of(build) is None


def test_an_archive_put_there_by_hand_is_never_deleted(tmp_path: Path, server: FaultServer) -> None:
    build = fetched(tmp_path, server, "never")
    digest = hashlib.sha256(server.content).hexdigest()
    folder = tmp_path / "data/archives/tiny_imagenet" / digest[:12]
    folder.mkdir(parents=True)
    (folder / ARCHIVE).write_bytes(server.content)
    published(build)
    assert server.requests == []
    assert (folder / ARCHIVE).read_bytes() == server.content


def test_an_archive_given_by_path_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    archive = tiny_zip(tmp_path / "mine")
    before, content = archive.stat(), archive.read_bytes()
    published(build_of(tmp_path, archive, keep_archives="never"))
    after = archive.stat()
    # Reading it changes when it was last read.
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert archive.read_bytes() == content


def test_an_archive_that_another_run_is_fetching_stays(tmp_path: Path, server: FaultServer) -> None:
    from imagenet_etl import leases

    build = fetched(tmp_path, server, "never")
    run_stages(build)
    other = leases.Owner("run-2")
    leases.acquire(build.storage, f"{build.work}/locks/download-{ARCHIVE}", other)
    publish_version(build)
    assert archive_of(build) is not None


def test_a_deletion_by_hand_is_no_letting_go(tmp_path: Path, server: FaultServer) -> None:
    build = fetched(tmp_path, server, "always")
    published(build)
    path = archive_of(build)
    assert path is not None
    path.unlink()
    assert not run_stage(build, "download").reused
    assert archive_of(build) is not None


@pytest.mark.parametrize("where", ["fetched", "in the data folder", "elsewhere"])
def test_publish_tells_of_archives_that_are_in_the_snapshot(
    tmp_path: Path, server: FaultServer, where: str
) -> None:
    build = fetched(tmp_path, server, "never")
    if where != "fetched":
        folder = "data/own" if where == "in the data folder" else "own"
        (tmp_path / folder).mkdir(parents=True)
        path = tiny_zip(tmp_path / folder)
        build = tiny_build(tmp_path / "data", workers=1, expect="any", sources={ARCHIVE: str(path)})
    run_stages(build, "download")
    receipt = receipts_up_to(build, "download")["download"]
    size = receipt.counts["archive_bytes"]
    assert archives_found(build, receipt) == (0 if where == "elsewhere" else size)
    assert archives_planned(build, known_archives(build)) == archives_found(build, receipt)
    assert size > 0


@pytest.mark.parametrize("folder", ["data/own", "own"])
def test_what_a_large_archive_is_unpacked_to_is_in_the_snapshot_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    count_as_large(monkeypatch)
    packed = packed_sample(tmp_path / folder)
    build = winter21_build(tmp_path / "data", packed)
    receipt = run_stage(build, "download").receipt
    (tar,) = tars_of(tmp_path / "data")
    on_volume = packed.stat().st_size if folder == "data/own" else 0
    assert archives_found(build, receipt) == tar.stat().st_size + on_volume
    assert archives_planned(build, known_archives(build)) == archives_found(build, receipt)

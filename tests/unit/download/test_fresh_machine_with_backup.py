"""A fresh machine that has the bucket builds the same version and never asks the publisher."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_runs import files_below
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.downloads import FACTS, login_forms
from tests.support.fault_server import FaultServer
from tests.support.moto_server import MotoServer
from tests.support.restores import BACKUP, back_up_archive, back_up_index

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.sources import sources_of
from imagenet_etl.errors import CloudNotFound, ConfigError
from imagenet_etl.leases import Owner
from imagenet_etl.mapped import run_download_of
from imagenet_etl.pipeline import run_stage
from imagenet_etl.preflight.archives import known_archives


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    return tiny_zip(tmp_path).read_bytes()


@pytest.fixture
def publisher(archive: bytes) -> Iterator[FaultServer]:
    with FaultServer(archive) as running:
        yield running


@pytest.fixture
def client(moto: MotoServer) -> Any:
    moto.bucket("backups")
    return moto.client("s3")


def machine(folder: Path, url: str, moto: MotoServer, **settings: Any) -> Build:
    build = build_of(folder, Path("/unused"), sources={FACTS.name: url}, **settings)
    return replace(build, aws=moto.client)


@pytest.mark.parametrize("digest", [True, False])
def test_the_version_is_the_same_and_the_publisher_is_not_asked(
    tmp_path: Path, archive: bytes, publisher: FaultServer, moto: MotoServer, client: Any,
    digest: bool,
) -> None:  # fmt: skip
    url = publisher.url + (f"#sha256={hashlib.sha256(archive).hexdigest()}" if digest else "")
    first = machine(tmp_path / "first", url, moto)
    expected = run_stages(first)
    back_up_archive(client, archive, publisher.url)
    back_up_index(client, first, expected["untar"])
    asked = len(publisher.requests)
    second = machine(tmp_path / "second", url, moto, s3_uri=BACKUP)
    found = run_stages(second)
    assert len(publisher.requests) == asked
    for stage, receipt in expected.items():
        assert found[stage].stage_digest == receipt.stage_digest
        assert found[stage].digest == receipt.digest
    version = expected["verify"].facts["version"]
    folders = [Path(b.settings.data_dir, b.published, version) for b in (first, second)]
    assert files_below(folders[0]) == files_below(folders[1])


def test_a_task_for_each_archive_takes_it_from_the_backup(
    tmp_path: Path, archive: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up_archive(client, archive, publisher.url)
    with machine(tmp_path, publisher.url, moto, s3_uri=BACKUP).locked() as build:
        run_download_of(build, FACTS.name)
        assert run_stage(build, "download").receipt.counts["archives"] == 1
    assert publisher.requests == []


def fall11(folder: Path, moto: MotoServer, **settings: Any) -> Build:
    chosen = Settings(dataset="imagenet_fall11", data_dir=str(folder), **settings)
    return new_build(chosen, Owner("run-1"), moto.client)


@pytest.mark.parametrize("expect", ["any", "published"])
def test_an_archive_that_nobody_serves_comes_from_the_backup(
    tmp_path: Path, moto: MotoServer, client: Any, expect: str
) -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("n00000001.tar"))
    name = "fall11_whole.tar"
    back_up_archive(
        client, held.getvalue(), "/nfs/old.tar", name=name, dataset="imagenet_fall11", kind="tar"
    )
    build = fall11(tmp_path, moto, s3_uri=BACKUP, expect=expect)
    (source,) = sources_of(build).archives
    note, count = verified_archive(build, source.archive, source=source.place)
    assert count == len(held.getvalue())
    assert note.source == f"{BACKUP}/imagenet_fall11/archives/{name}/"
    assert verified_archive(build, source.archive, source=source.place) == (note, 0)


def test_the_budget_counts_what_a_backup_may_hold(tmp_path: Path, moto: MotoServer) -> None:
    (known,) = known_archives(fall11(tmp_path, moto, s3_uri=BACKUP))
    assert (known.is_given, known.missing) == (True, 1_310_000_000_000)
    (known,) = known_archives(fall11(tmp_path, moto, s3_uri=BACKUP, expect="any"))
    assert (known.is_given, known.missing) == (True, None)
    (known,) = known_archives(fall11(tmp_path, moto, s3_uri=BACKUP, from_backup=False))
    assert not known.is_given


def test_an_archive_that_nobody_has_is_a_typed_error(
    tmp_path: Path, moto: MotoServer, client: Any
) -> None:
    build = fall11(tmp_path, moto, s3_uri=BACKUP)
    (source,) = sources_of(build).archives
    with pytest.raises(CloudNotFound, match="does not hold it"):
        verified_archive(build, source.archive, source=source.place)
    build = fall11(tmp_path, moto, s3_uri=BACKUP, from_backup=False)
    with pytest.raises(ConfigError, match="behind a login"):
        verified_archive(build, source.archive, source=source.place)


def test_the_backup_gets_no_login_of_the_publisher(
    tmp_path: Path, archive: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up_archive(client, archive, publisher.url)
    build = machine(tmp_path, publisher.url, moto, s3_uri=BACKUP)

    def login() -> None:
        raise AssertionError(f"it was asked for one of {list(login_forms('x'))}")

    with replace(build, login=login).locked() as locked:
        assert run_stage(locked, "download").receipt.counts["archives"] == 1


def test_what_the_backup_stage_has_sent_is_all_that_a_fresh_machine_needs(
    tmp_path: Path, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    settings = {"s3_uri": BACKUP, "back_up": ("dataset", "archives")}
    first = machine(tmp_path / "first", publisher.url, moto, **settings)
    expected = run_stages(first)
    with first.locked() as locked:
        run_stage(locked, "back_up_to_s3")
    asked = len(publisher.requests)
    second = machine(tmp_path / "second", publisher.url, moto, **settings)
    found = run_stages(second)
    assert len(publisher.requests) == asked
    assert found["verify"].digest == expected["verify"].digest
    with second.locked() as locked:
        assert run_stage(locked, "back_up_to_s3").receipt.facts["uploaded"] == 0

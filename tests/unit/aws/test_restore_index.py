"""An image index that the backup holds is taken instead of listing the archive again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import build_of
from tests.support.moto_server import MotoServer
from tests.support.restores import BACKUP, back_up_index, place_of

from imagenet_etl import untar as untar_module
from imagenet_etl.build import Build
from imagenet_etl.pipeline import receipts_up_to, run_stage
from imagenet_etl.receipts import Receipt

INDEX = "images.parquet"


@pytest.fixture
def listed(packed: Build) -> Receipt:
    return receipts_up_to(packed, "untar")["untar"]


@pytest.fixture
def prefix(packed: Build, listed: Receipt, moto: MotoServer) -> str:
    moto.bucket("backups")
    return back_up_index(moto.client("s3"), packed, listed)


@pytest.fixture
def build(tmp_path: Path, packed: Build, moto: MotoServer) -> Iterator[Build]:
    """The same archives in a fresh data folder."""
    (archive,) = packed.settings.sources.values()
    build = build_of(tmp_path, Path(archive), s3_uri=BACKUP)
    with replace(build, aws=moto.client).locked() as locked:
        run_stage(locked, "download")
        yield locked


def forbid_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    def listing(*_: object) -> None:
        raise AssertionError("the archive was read")

    monkeypatch.setattr(untar_module, "_tables", listing)


def test_the_index_comes_back_without_reading_the_archive(
    build: Build, listed: Receipt, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_listing(monkeypatch)
    receipt = run_stage(build, "untar").receipt
    assert (receipt.digest, receipt.facts) == (listed.digest, listed.facts)
    assert run_stage(build, "untar").reused
    for output in receipt.outputs:
        assert build.storage.digest(receipt.key_of(output.name)) == (output.size, output.sha256)


def damaged(client: Any, prefix: str) -> None:
    client.put_object(Bucket="backups", Key=f"{prefix}/{INDEX}", Body=b"damaged")


def gone(client: Any, prefix: str) -> None:
    client.delete_object(Bucket="backups", Key=f"{prefix}/{INDEX}")


def without_receipt(client: Any, prefix: str) -> None:
    client.delete_object(Bucket="backups", Key=f"{prefix}/receipt.json")


def no_receipt(client: Any, prefix: str) -> None:
    client.put_object(Bucket="backups", Key=f"{prefix}/receipt.json", Body=b"{}")


@pytest.mark.parametrize("harm", [damaged, gone, without_receipt, no_receipt])
def test_an_index_that_cannot_be_had_is_made(
    build: Build, listed: Receipt, prefix: str, moto: MotoServer, harm: Any
) -> None:
    harm(moto.client("s3"), prefix)
    assert run_stage(build, "untar").receipt.digest == listed.digest


def test_the_index_of_another_archive_is_not_taken(
    build: Build, listed: Receipt, prefix: str, moto: MotoServer
) -> None:
    client, place = moto.client("s3"), place_of()
    body = client.get_object(Bucket="backups", Key=f"{prefix}/receipt.json")["Body"].read()
    other = body.replace(listed.stage_digest.encode(), b"0" * 64)
    client.put_object(Bucket="backups", Key=f"{prefix}/receipt.json", Body=other)
    assert place.index(listed.stage_digest) == prefix
    assert run_stage(build, "untar").receipt.digest == listed.digest


def test_without_a_backup_nothing_is_asked(build: Build, listed: Receipt) -> None:
    def none(*_: object, **__: object) -> None:
        raise AssertionError("it was asked")

    settings = replace(build.settings, from_backup=False)
    receipt = run_stage(replace(build, settings=settings, aws=none), "untar").receipt
    assert receipt.digest == listed.digest

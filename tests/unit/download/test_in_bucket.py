"""With a data folder in a bucket, archives in buckets are used where they lie."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import build_of, tiny_zip
from tests.support.downloads import CONTENT, FACTS, OTHER, SHA256, Run, archive_bytes
from tests.support.moto_server import MotoServer
from tests.support.restores import back_up_archive, place_of
from tests.unit.download.bucket_runs import (
    DATA,
    bucket_build,
    content_at,
    got,
    keys_below,
    sha256_of,
)

from imagenet_etl.archives import kinds
from imagenet_etl.archives.location import open_archive
from imagenet_etl.build import new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import facts_of
from imagenet_etl.download import hashing, in_bucket
from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.held import settled
from imagenet_etl.download.release import is_released, release_archive
from imagenet_etl.download.sources import sources_of
from imagenet_etl.download.stage import archives_unchanged
from imagenet_etl.errors import (
    ArchiveChanged,
    BadArchive,
    ChecksumMismatch,
    CloudNotFound,
    ConfigError,
)
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage

URL = "s3://sets/imagenet/a.zip"


@pytest.fixture
def client(moto: MotoServer) -> Any:
    for name in ("sets", "backups"):
        moto.bucket(name)
    return moto.client("s3")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read through."""
    seen: list[str] = []

    def hashed(file: Any, what: str, algorithms: Any, read: Any) -> dict[str, str]:
        seen.append(what)
        return hashing.hashed(file, what, algorithms, read)

    monkeypatch.setattr(in_bucket, "hashed", hashed)
    return seen


def put(client: Any, content: bytes = CONTENT, key: str = "imagenet/a.zip", **more: Any) -> None:
    client.put_object(Bucket="sets", Key=key, Body=content, **more)


def test_it_is_read_through_once_and_has_the_digests_of_a_file(
    moto: MotoServer, client: Any, reads: list[str], tmp_path: Path
) -> None:
    put(client)
    (tmp_path / "a.zip").write_bytes(CONTENT)
    build = bucket_build(moto, URL)
    note, fetched = got(build)
    on_disk, _ = Run(tmp_path / "data")(str(tmp_path / "a.zip"))
    assert (note.digests, fetched, note.is_ours) == (on_disk.digests, 0, False)
    assert (note.archive.location, note.archive.kind) == (URL, "zip")
    assert got(bucket_build(moto, URL))[0] == noted(build, FACTS) == note
    assert reads == [URL]
    assert keys_below(build, "archives") == []
    with open_archive(build.storage, note.archive) as archive:
        assert archive.name == FACTS.name


def test_the_stages_receipt_is_that_of_a_run_on_a_disk(
    moto: MotoServer, client: Any, tmp_path: Path
) -> None:
    archive = tiny_zip(tmp_path)
    put(client, archive.read_bytes())
    build = bucket_build(moto, URL)
    receipt = run_stage(build, "download").receipt
    assert receipt.digest == run_stage(build_of(tmp_path, archive), "download").receipt.digest
    assert run_stage(build, "download").reused
    put(client, archive.read_bytes() + b"\0")
    assert not archives_unchanged(build, receipt)


def test_another_etag_is_verified_again(moto: MotoServer, client: Any, reads: list[str]) -> None:
    put(client)
    got(bucket_build(moto, URL))
    put(client, OTHER)
    build = bucket_build(moto, URL)
    assert noted(build, FACTS) is None
    assert got(build)[0].sha256 == sha256_of(OTHER)
    assert reads == [URL, URL]


def test_what_s3_has_hashed_itself_is_not_read(
    moto: MotoServer, client: Any, reads: list[str]
) -> None:
    put(client, ChecksumAlgorithm="SHA256")
    assert got(bucket_build(moto, URL))[0].digests == {"sha256": SHA256}
    with pytest.raises(ChecksumMismatch):
        got(bucket_build(moto, f"{URL}#sha256={sha256_of(OTHER)}"))
    assert reads == []


def test_metadata_is_a_claim_and_no_proof(moto: MotoServer, client: Any, reads: list[str]) -> None:
    put(client, OTHER, Metadata={"sha256": SHA256})
    with pytest.raises(ChecksumMismatch, match="not the published file"):
        got(bucket_build(moto, f"{URL}#sha256={SHA256}"))
    assert reads == [URL]
    assert keys_below(bucket_build(moto, URL), "work") == []


@pytest.mark.parametrize("metadata", [{"sha256": SHA256}, {}])
def test_a_mark_vouches_for_the_object_that_still_bears_its_digest(
    moto: MotoServer, client: Any, reads: list[str], metadata: dict[str, str]
) -> None:
    back_up_archive(client, CONTENT, "/nfs/a.zip")
    place = place_of()
    key = place.archive(FACTS.name, SHA256)
    client.put_object(Bucket=place.bucket, Key=key, Body=CONTENT, Metadata=metadata)
    facts = replace(FACTS, md5=hashlib.md5(CONTENT).hexdigest(), size=len(CONTENT))
    build = bucket_build(moto, place.uri(key), expect="published")
    note, _ = verified_archive(build, facts)
    assert note.digests == {"md5": facts.md5, "sha256": SHA256}
    assert reads == ([] if metadata else [place.uri(key)])


def test_what_only_the_backup_has_is_used_there(
    moto: MotoServer, client: Any, reads: list[str]
) -> None:
    back_up_archive(client, CONTENT, "/nfs/a.zip")
    facts = replace(FACTS, url="")
    build = bucket_build(moto, s3_uri="s3://backups/sets")
    note, fetched = verified_archive(build, facts)
    assert (note.sha256, fetched, content_at(build, note)) == (SHA256, 0, CONTENT)
    assert note.archive.location == place_of().uri(place_of().archive(FACTS.name, SHA256))
    assert verified_archive(build, facts)[0] == noted(build, facts) == note
    assert len(reads) == 1
    assert release_archive(build, facts) == 0
    assert content_at(build, note) == CONTENT


def test_the_users_own_is_never_let_go(moto: MotoServer, client: Any) -> None:
    put(client)
    build = bucket_build(moto, URL)
    note, _ = got(build)
    assert release_archive(build, FACTS) == 0
    assert not upstream_changed(build, FACTS)
    assert settled(build, sources_of(build).archives[0]) == note
    client.delete_object(Bucket="sets", Key="imagenet/a.zip")
    assert not is_released(build.storage, note.archive, note.sha256)
    with pytest.raises(CloudNotFound, match="does not exist"):
        got(build)


def test_a_replacement_in_mid_read_is_noticed(moto: MotoServer, client: Any) -> None:
    put(client)
    storage = bucket_build(moto).storage.at("s3://sets/imagenet")
    with storage.open("a.zip") as file, pytest.raises(ArchiveChanged):
        hashing.hashed(file, URL, ("sha256",), lambda _: put(client, OTHER))


@pytest.mark.parametrize("url", ["s3://sets/imagenet/", "s3://sets/imagenet"])
def test_a_folder_of_images_is_refused(moto: MotoServer, client: Any, url: str) -> None:
    put(client, b"x", key="imagenet/train/n1/a.JPEG")
    with pytest.raises(ConfigError, match="is a folder in a bucket"):
        got(bucket_build(moto, url))


def test_a_folder_of_archives_is_looked_into(moto: MotoServer, client: Any) -> None:
    names = ["ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"]
    for name in names:
        put(client, b"x", key=f"imagenet/{name}")
    url = "s3://sets/imagenet/"
    facts = facts_of("ilsvrc2012")
    assert facts.bundle is not None
    for place, held in (
        (url, [f"{url}{name}" for name in names]),
        ("s3://sets/other/", ["s3://sets/other/"]),
    ):
        chosen = Settings("ilsvrc2012", DATA, sources={facts.bundle.name: place})
        found = sources_of(new_build(chosen, Owner("run-1"), moto.client)).archives
        assert [source.place for source in found] == held


def test_keys_that_other_names_lead_to_are_refused(moto: MotoServer, client: Any) -> None:
    put(client, key="a//b.zip")
    with pytest.raises(ConfigError, match="cannot be used in place"):
        got(bucket_build(moto, "s3://sets/a//b.zip"))


def test_a_path_is_refused_at_once(moto: MotoServer, client: Any, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT)
    build = bucket_build(moto, str(tmp_path / "a.zip"))
    with pytest.raises(ConfigError, match="on this machine alone") as refusal:
        got(build)
    assert f"aws s3 cp {tmp_path / 'a.zip'}" in str(refusal.value)
    assert keys_below(build, ".") == []


def test_gzip_that_no_memory_holds_is_refused(
    moto: MotoServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "MAX_PACKED_BYTES", 1000)
    put(client, gzip.compress(archive_bytes(size=5000)), key="w.tar.gz")
    facts = replace(FACTS, name="w.tar.gz", kind="tar.gz")
    with pytest.raises(BadArchive, match="no disk to unpack it to") as refusal:
        verified_archive(bucket_build(moto), facts, source="s3://sets/w.tar.gz")
    assert "gunzip" in str(refusal.value)

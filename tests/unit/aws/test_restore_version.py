"""A version comes back from the bucket whole, under its name, and known to the registry."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_runs import files_below
from tests.support.archives import build_of, run_stages
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer
from tests.support.restores import BACKUP, back_up_folder, place_of
from tests.support.restores import fresh_machine as fresh
from tests.support.restores import restored_version as restored
from tests.unit.aws.conftest import version_folder

from imagenet_etl.aws.s3_restore import read_backed_up
from imagenet_etl.build import Build
from imagenet_etl.datastore.disk import read_registry
from imagenet_etl.errors import (
    BackupIncomplete,
    ChecksumMismatch,
    ConfigError,
    DatasetDamaged,
    VersionConflict,
)
from imagenet_etl.files import digest_of, pretty_json

RECORDS = "recordio/train/train_00000.rec"


@pytest.fixture
def client(packed: Build, moto: MotoServer) -> Any:
    moto.bucket("backups")
    client = moto.client("s3")
    back_up_folder(client, version_folder(packed))
    return client


@pytest.fixture
def proxy(moto: MotoServer, client: Any) -> Iterator[FaultProxy]:
    with fault_proxy(moto.url) as proxy:
        yield proxy


def key_of(name: str) -> dict[str, str]:
    return {"Bucket": "backups", "Key": f"{place_of().version('v1')}/{name}"}


@pytest.mark.parametrize("in_ranges_above", [0, 4096, 8 << 20])
def test_a_version_comes_back_byte_for_byte(
    tmp_path: Path, packed: Build, moto: MotoServer, client: Any, in_ranges_above: int
) -> None:
    build = fresh(tmp_path, moto)
    done = restored(build, in_ranges_above=in_ranges_above)
    files = files_below(version_folder(packed))
    assert Path(done.path) == version_folder(build)
    assert files_below(Path(done.path)) == files
    assert (done.files, done.kept_bytes, done.was_there) == (len(files), 0, False)
    assert list((tmp_path / "fresh" / build.work / "restore").iterdir()) == []


def test_the_registry_knows_it(tmp_path: Path, moto: MotoServer, client: Any) -> None:
    build = fresh(tmp_path, moto)
    restored(build)
    entry = read_registry(build.storage, "tiny_imagenet").versions["v1"]
    assert entry["path"] == "datasets/tiny_imagenet/v1"
    assert entry["formats"] == {"recordio": "recordio", "imagefolder": "imagefolder"}
    assert entry["s3_uri"] == f"{BACKUP}/tiny_imagenet/v1"
    assert entry["published_at"] > 0


def test_a_restored_version_is_what_the_same_settings_build(
    tmp_path: Path, packed: Build, moto: MotoServer, client: Any
) -> None:
    archive = Path(packed.settings.sources["tiny-imagenet-200.zip"])
    (tmp_path / "data").mkdir()
    build = build_of(tmp_path, archive, formats=("recordio", "imagefolder"), version="v1")
    restored(replace(build, settings=replace(build.settings, s3_uri=BACKUP), aws=moto.client))
    before = files_below(version_folder(build))
    receipts = run_stages(build)
    assert files_below(version_folder(build)) == before
    assert receipts["verify"].facts["version"] == "v1"


def test_a_version_that_is_there_is_left_alone(
    tmp_path: Path, moto: MotoServer, proxy: FaultProxy
) -> None:
    build = fresh(tmp_path, proxy)
    restored(build)
    registry = build.storage.read("datasets/tiny_imagenet/registry.json")
    proxy.calls.clear()
    done = restored(build)
    assert (done.was_there, done.fetched_bytes) == (True, 0)
    assert proxy.calls == ["GetObject", "GetObject"]  # its manifest and the catalog
    assert build.storage.read("datasets/tiny_imagenet/registry.json") == registry


def test_other_content_under_the_name_is_left_alone(
    tmp_path: Path, moto: MotoServer, client: Any
) -> None:
    build = fresh(tmp_path, moto)
    restored(build)
    manifest = version_folder(build) / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    before = files_below(version_folder(build))
    with pytest.raises(VersionConflict, match="another manifest"):
        restored(build)
    assert files_below(version_folder(build)) == before


def test_a_folder_without_manifest_is_left_alone(
    tmp_path: Path, moto: MotoServer, client: Any
) -> None:
    build = fresh(tmp_path, moto)
    version_folder(build).mkdir(parents=True)
    (version_folder(build) / "mine.txt").write_text("mine")
    with pytest.raises(VersionConflict):
        restored(build)
    assert [p.name for p in version_folder(build).iterdir()] == ["mine.txt"]


def test_without_its_manifest_it_is_no_backup(
    tmp_path: Path, moto: MotoServer, client: Any
) -> None:
    client.delete_object(**key_of("manifest.json"))
    with pytest.raises(BackupIncomplete, match="no complete backup"):
        restored(fresh(tmp_path, moto))


@pytest.mark.parametrize("above", [0, 8 << 20])
def test_a_missing_object_is_named(
    tmp_path: Path, moto: MotoServer, client: Any, above: int
) -> None:
    client.delete_object(**key_of(RECORDS))
    build = fresh(tmp_path, moto)
    with pytest.raises(BackupIncomplete, match=RECORDS):
        restored(build, in_ranges_above=above)
    assert not version_folder(build).exists()


@pytest.mark.parametrize("above", [0, 8 << 20])
def test_a_damaged_object_is_named(
    tmp_path: Path, moto: MotoServer, client: Any, above: int
) -> None:
    content = bytearray(client.get_object(**key_of(RECORDS))["Body"].read())
    content[100] ^= 1
    client.put_object(**key_of(RECORDS), Body=bytes(content))
    build = fresh(tmp_path, moto)
    with pytest.raises(ChecksumMismatch, match=RECORDS):
        restored(build, in_ranges_above=above)
    assert not version_folder(build).exists()
    assert read_registry(build.storage, "tiny_imagenet").versions == {}


def test_a_damaged_manifest_is_refused(tmp_path: Path, moto: MotoServer, client: Any) -> None:
    body = client.get_object(**key_of("manifest.json"))["Body"].read()
    client.put_object(**key_of("manifest.json"), Body=body.replace(b'"v1"', b'"v2"'))
    with pytest.raises(DatasetDamaged):
        restored(fresh(tmp_path, moto))


def test_a_name_that_climbs_out_is_refused(tmp_path: Path, moto: MotoServer, client: Any) -> None:
    fields = json.loads(client.get_object(**key_of("manifest.json"))["Body"].read())
    fields.pop("content_sha256")
    fields["files"][0]["name"] = "../../../canary"
    body = pretty_json(fields | {"content_sha256": digest_of(fields)})
    client.put_object(**key_of("manifest.json"), Body=body)
    with pytest.raises(ConfigError, match="canary"):
        restored(fresh(tmp_path, moto))
    assert not list(tmp_path.rglob("canary"))


def test_what_an_earlier_restore_brought_is_kept_if_it_is_right(
    tmp_path: Path, moto: MotoServer, client: Any
) -> None:
    build = fresh(tmp_path, moto)
    body = client.get_object(**key_of(RECORDS))["Body"].read()
    client.delete_object(**key_of(RECORDS))
    with pytest.raises(BackupIncomplete):
        restored(build)
    client.put_object(**key_of(RECORDS), Body=body)
    (tree,) = (tmp_path / "fresh" / build.work / "restore").glob("*/tree")
    wrong = tree / "classes.tsv"
    wrong.write_text("damaged")
    kept = sum(p.stat().st_size for p in tree.rglob("*") if p.is_file() and p != wrong)
    done = restored(build)
    assert (done.kept_bytes, done.fetched_bytes > len(body)) == (kept, True)
    assert (version_folder(build) / "classes.tsv").read_text().startswith("label")


def test_stagings_of_other_manifests_of_the_version_are_removed(
    tmp_path: Path, moto: MotoServer, client: Any
) -> None:
    build = fresh(tmp_path, moto)
    folder = tmp_path / "fresh" / build.work / "restore"
    others = ["v1-0123456789ab-0123456789ab", "v2-0123456789ab"]
    for name in ["v1-0123456789ab", *others]:
        (folder / name / "tree").mkdir(parents=True)
    restored(build)
    assert sorted(path.name for path in folder.iterdir()) == others


def test_a_stray_file_in_the_staging_is_not_published(
    tmp_path: Path, moto: MotoServer, client: Any
) -> None:
    build = fresh(tmp_path, moto)
    backed_up = read_backed_up(build, "v1")
    staged = tmp_path / "fresh" / build.work / "restore" / f"v1-{backed_up.sha256[:12]}" / "tree"
    (staged / "imagefolder" / "train" / "stray").mkdir(parents=True)
    (staged / "imagefolder" / "train" / "stray" / "x.JPEG").write_bytes(b"x")
    with pytest.raises(DatasetDamaged, match="stray"):
        restored(build)
    assert not version_folder(build).exists()
    shutil.rmtree(staged / "imagefolder" / "train" / "stray")
    assert not restored(build).was_there

"""The command ``restore``: what a URI leads to, and what comes of it."""

import argparse
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.support.airflow_runs import files_below
from tests.support.downloads import CONTENT
from tests.support.moto_server import MotoServer
from tests.support.restores import BACKUP, back_up_archive, back_up_folder, place_of
from tests.unit.aws.conftest import version_folder

from imagenet_etl.aws.s3_catalog import update_catalog
from imagenet_etl.aws.s3_restore_find import Target, newest_version, parse_target
from imagenet_etl.build import Build
from imagenet_etl.cli_restore import add_restore
from imagenet_etl.datasets import DATASETS
from imagenet_etl.errors import BackupIncomplete, ConfigError


@pytest.fixture
def bucket(packed: Build, moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the credentials of its first use
    moto.bucket("backups")
    client = moto.client("s3")
    back_up_folder(client, version_folder(packed))
    return client


def restore(*argv: object) -> None:
    parser = argparse.ArgumentParser()
    add_restore(parser.add_subparsers())
    args = parser.parse_args(["restore", *map(str, argv)])
    args.run(args)


@pytest.mark.parametrize(
    ("uri", "dataset", "version", "expected"),
    [
        ("s3://sets", "", "", Target("s3://sets")),
        ("s3://sets/p/q/", "", "", Target("s3://sets/p/q")),
        ("s3://sets/tiny_imagenet", "", "", Target("s3://sets", "tiny_imagenet")),
        ("s3://sets/p/tiny_imagenet/v1", "", "", Target("s3://sets/p", "tiny_imagenet", "v1")),
        ("s3://sets/p/tiny_imagenet", "", "v2", Target("s3://sets/p", "tiny_imagenet", "v2")),
        ("s3://sets/p", "ilsvrc2012", "v2", Target("s3://sets/p", "ilsvrc2012", "v2")),
        ("s3://sets/tiny_imagenet", "ilsvrc2012", "",
         Target("s3://sets/tiny_imagenet", "ilsvrc2012")),
        ("s3://sets/x/ilsvrc2012/v1", "ilsvrc2012", "v1",
         Target("s3://sets/x", "ilsvrc2012", "v1")),
    ],
)  # fmt: skip
def test_a_uri_is_taken_apart(uri: str, dataset: str, version: str, expected: Target) -> None:
    assert parse_target(uri, DATASETS, dataset, version) == expected


def test_a_bucket_is_no_place_to_restore_to() -> None:
    with pytest.raises(ConfigError, match="cannot be restored to s3://c: expected a folder"):
        restore("s3://sets/p", "--dataset", "tiny_imagenet", "--data-dir", "s3://c")
    assert not Path("s3:").exists()


def test_two_versions_in_one_command_are_refused() -> None:
    with pytest.raises(ConfigError, match="names version v1"):
        parse_target("s3://sets/tiny_imagenet/v1", DATASETS, "", "v2")
    with pytest.raises(ConfigError):
        parse_target("/a/path", DATASETS, "", "")


@pytest.mark.parametrize("below", ["", "/tiny_imagenet", "/tiny_imagenet/v1"])
def test_a_version_comes_back_and_its_folder_is_printed(
    tmp_path: Path, packed: Build, bucket: Any, capsys: Any, below: str
) -> None:
    restore(f"{BACKUP}{below}", "--data-dir", tmp_path)
    folder = Path(capsys.readouterr().out.strip())
    assert folder == tmp_path / "datasets" / "tiny_imagenet" / "v1"
    assert files_below(folder) == files_below(version_folder(packed))


def test_a_dry_run_writes_nothing(tmp_path: Path, bucket: Any, capsys: Any) -> None:
    restore(BACKUP, "--data-dir", tmp_path, "--dry-run")
    assert f"{BACKUP}/tiny_imagenet/v1: " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_archives_come_back_with_their_notes(tmp_path: Path, bucket: Any, capsys: Any) -> None:
    mark = back_up_archive(bucket, CONTENT, "/somewhere.zip")
    restore(BACKUP, "--data-dir", tmp_path, "--dataset", "tiny_imagenet", "--archives", "--dry-run")
    name = "tiny-imagenet-200.zip"
    told = f"{BACKUP}/tiny_imagenet/archives/{name}/{mark.sha256[:16]}/{name}\n"
    assert capsys.readouterr().out == told
    restore(BACKUP, "--data-dir", tmp_path, "--dataset", "tiny_imagenet", "--archives")
    path = Path(capsys.readouterr().out.strip())
    assert path.read_bytes() == CONTENT
    assert path.with_name(f"{path.name}.receipt.json").exists()


def test_no_archives_are_told(tmp_path: Path, bucket: Any) -> None:
    with pytest.raises(ConfigError, match="no archive"):
        restore(BACKUP, "--data-dir", tmp_path, "--archives")


def test_nothing_below_the_uri_is_told(tmp_path: Path, bucket: Any) -> None:
    with pytest.raises(ConfigError, match="which dataset"):
        restore("s3://backups/elsewhere", "--data-dir", tmp_path)
    with pytest.raises(BackupIncomplete, match="no complete version"):
        restore(BACKUP, "--data-dir", tmp_path, "--dataset", "ilsvrc2012")


def test_the_catalog_says_which_version_is_the_latest(bucket: Any) -> None:
    def entry(at: float) -> dict[str, Any]:
        return {"path": "", "formats": {}, "manifest_sha256": "x", "published_at": at,
                "s3_uri": "s3://x"}  # fmt: skip

    place = place_of()
    bucket.put_object(Bucket="backups", Key=f"{place.version('v0')}/recordio/x", Body=b"")
    assert newest_version(bucket, place, "tiny_imagenet") == "v1"
    for name, at in (("old", 1.0), ("new", 2.0)):
        update_catalog(
            bucket,
            place,
            "tiny_imagenet",
            lambda catalog, name=name, at=at: catalog.with_entry(name, entry(at)),
        )
    assert newest_version(bucket, place, "tiny_imagenet") == "new"

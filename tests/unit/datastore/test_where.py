"""Finding a version, and the commands that tell what there is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.moto_server import MotoServer
from tests.unit.datastore.helpers import NAME, URI, Site, class_tree

from imagenet_etl import pruning
from imagenet_etl.cli_datastore import add_datastore
from imagenet_etl.datastore import removal
from imagenet_etl.datastore.where import split_name
from imagenet_etl.errors import ConfigError, StorageError
from imagenet_etl.pruning import prune_versions


def command(*argv: str) -> None:
    parser = argparse.ArgumentParser()
    add_datastore(parser.add_subparsers(required=True))
    args = parser.parse_args(list(map(str, argv)))
    args.run(args)


@pytest.fixture
def site(tmp_path: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    moto.bucket("backups")
    return Site(tmp_path / "data", moto)


@pytest.fixture
def where(site: Site, capsys: pytest.CaptureFixture[str]):
    def run(name: str, *more: str) -> str:
        command("where", name, *(more or ("--data-dir", site.storage.url)))
        return capsys.readouterr().out

    return run


def test_latest_version_is_printed_alone(site, where):
    site.on_disk("v1", at=1)
    site.on_disk("v2", at=2)
    folder = f"{site.storage.url}/datasets/{NAME}"
    assert where(NAME) == where(f"{NAME}@latest") == f"{folder}/v2\n"
    assert where(f"{NAME}@v1") == f"{folder}/v1\n"
    assert where(NAME, "--data-dir", site.storage.url, "--format", "recordio") == (
        f"{folder}/v2/recordio\n"
    )


def test_registry_is_right_wherever_the_volume_is_mounted(site, where, tmp_path):
    site.on_disk("v1", at=1)
    moved = Path(site.storage.url).rename(tmp_path / "elsewhere")
    assert where(NAME, "--data-dir", str(moved)) == f"{moved}/datasets/{NAME}/v1\n"


def test_only_the_bucket_has_it(site, where):
    site.in_bucket("v1", at=1)
    assert where(NAME, "--s3-uri", URI) == f"{URI}/{NAME}/v1\n"
    assert where(NAME, "--s3-uri", URI, "--format", "recordio") == f"{URI}/{NAME}/v1/recordio\n"
    both = ("--s3-uri", URI, "--data-dir", site.storage.url)
    assert where(NAME, *both) == f"{site.storage.url}/datasets/{NAME}/v1\n"
    site.storage.delete(f"datasets/{NAME}/v1")
    assert where(NAME) == where(NAME, *both) == f"{URI}/{NAME}/v1\n"


def test_version_that_is_only_elsewhere_says_so(site, where):
    site.enter("v1", at=1, snapshots={"eu-west-1": "snap-1"})
    with pytest.raises(StorageError, match="does not exist on this machine") as caught:
        where(NAME)
    assert "snapshot snap-1 in eu-west-1" in str(caught.value)


def test_half_a_version_is_none(site, where):
    site.on_disk("v1", at=1)
    site.storage.delete(f"datasets/{NAME}/v1/manifest.json")
    with pytest.raises(StorageError, match="does not exist on this machine"):
        where(NAME)


def test_what_is_not_there_is_named(site, where):
    with pytest.raises(StorageError, match="no version of tiny_imagenet is registered"):
        where(NAME)
    site.on_disk("v1", at=1)
    with pytest.raises(StorageError, match="no version 'v9': expected v1"):
        where(f"{NAME}@v9")
    with pytest.raises(StorageError, match="no format 'lmdb': expected recordio"):
        where(NAME, "--data-dir", site.storage.url, "--format", "lmdb")
    site.enter("v2", at=2, removing=True)
    with pytest.raises(StorageError, match="being removed"):
        where(f"{NAME}@v2")


def test_a_place_must_be_given():
    with pytest.raises(ConfigError, match="no place to look in"):
        command("datasets")
    with pytest.raises(ConfigError):
        split_name("x@")


def test_adopted_tree_is_found_where_it_stands(site, where, tmp_path, capsys):
    tree = class_tree(tmp_path / "tree")
    command("register", tree, "--name", "birds", "--data-dir", site.storage.url)
    assert capsys.readouterr().out.startswith("birds@")
    assert where("birds") == f"{tree}\n"
    assert where("birds", "--data-dir", site.storage.url, "--format", "imagefolder") == f"{tree}\n"
    tree.rename(tmp_path / "gone")
    with pytest.raises(StorageError, match=f"{tree} does not exist on this machine"):
        where("birds")


def test_datasets_are_listed(site, capsys, tmp_path):
    site.in_bucket("v1", at=1e9, snapshots={"us-east-1": "snap-1"}, shared_with=["1" * 12])
    site.enter("v2", at=2e9)
    command("datasets", "--data-dir", site.storage.url, "--s3-uri", URI)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == NAME
    assert "v2 (latest)" in lines[2]
    assert "(not on this machine)" in lines[2]
    for part in ("v1 ", "2.0 MB", "2001-09-09", "recordio", f"{URI}/{NAME}/v1", "snap-1 in us-e",
                 "shared with 1111"):  # fmt: skip
        assert part in lines[3]


def test_json_has_everything(site, capsys):
    entry = site.on_disk("v1", at=1)
    command("datasets", "--data-dir", site.storage.url, "--json")
    found = json.loads(capsys.readouterr().out)[NAME]
    here = f"{site.storage.url}/datasets/{NAME}/v1"
    assert found == {"latest": "v1", "versions": {"v1": entry | {"on_this_machine": here}}}


def test_nothing_registered_lists_nothing(site, capsys):
    command("datasets", "--data-dir", site.storage.url, "--s3-uri", "s3://backups/empty")
    assert capsys.readouterr().out == ""


@pytest.fixture
def pruned_elsewhere(site: Site, tmp_path: Path) -> Iterator[Site]:
    """``old``, of which this machine has no folder, about to be pruned by another machine."""
    site.in_bucket("old", at=1)
    site.storage.delete(f"datasets/{NAME}/old")
    other = Site(tmp_path / "other", site.moto, URI)
    other.in_bucket("new", at=2)
    yield other
    other.storage.close_staging()


def test_backup_that_another_machine_removes_is_not_handed_out(
    site, where, pruned_elsewhere, monkeypatch, capsys
):
    both = ("--data-dir", site.storage.url, "--s3-uri", URI)
    assert where(f"{NAME}@old", *both) == f"{URI}/{NAME}/old\n"
    seen = []

    def removing(*args):
        with pytest.raises(StorageError, match="old is being removed"):
            where(f"{NAME}@old", *both)
        command("datasets", *both)
        seen.append(capsys.readouterr().out)
        return removal.remove_backup(*args)

    monkeypatch.setattr(pruning, "remove_backup", removing)
    assert prune_versions(pruned_elsewhere.store, 1, really=True).versions == ("old",)
    assert "old (being removed)" in seen[0]
    assert f"{URI}/{NAME}/old" not in seen[0]


def test_backup_that_is_gone_from_the_bucket_is_not_handed_out(
    site, where, pruned_elsewhere, capsys
):
    both = ("--data-dir", site.storage.url, "--s3-uri", URI)
    prune_versions(pruned_elsewhere.store, 1, really=True)
    with pytest.raises(StorageError, match="old does not exist on this machine"):
        where(f"{NAME}@old", *both)
    command("datasets", *both)
    assert f"{URI}/{NAME}/old" not in capsys.readouterr().out
    site.enter("old", at=1, other_s3_uris=["s3://second/y/old"])
    assert where(f"{NAME}@old", *both) == "s3://second/y/old\n", "nobody has asked that bucket"


def test_backup_that_no_catalog_knows_is_handed_out_while_its_manifest_is_there(site, where, moto):
    uri = f"{URI}/{NAME}/old"
    site.enter("old", at=1, s3_uri=uri)
    both = (f"{NAME}@old", "--data-dir", site.storage.url, "--s3-uri", URI)
    with pytest.raises(StorageError, match="old does not exist on this machine"):
        where(*both)
    bucket, _, prefix = URI.removeprefix("s3://").partition("/")
    key = f"{prefix}/{NAME}/old/manifest.json"
    moto.client("s3").put_object(Bucket=bucket, Key=key, Body=b"{}")
    assert where(*both) == f"{uri}\n"


def test_folder_that_is_here_is_handed_out_while_its_backup_is_removed(
    site, where, pruned_elsewhere, monkeypatch
):
    site.on_disk("old", at=1)
    monkeypatch.setattr(pruning, "remove_backup", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prune_versions(pruned_elsewhere.store, 1, really=True)
    both = ("--data-dir", site.storage.url, "--s3-uri", URI)
    assert where(f"{NAME}@old", *both) == f"{site.storage.url}/datasets/{NAME}/old\n"

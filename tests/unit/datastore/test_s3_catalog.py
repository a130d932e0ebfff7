"""The catalog in the bucket."""

from __future__ import annotations

import json

import pytest
from tests.support.fault_proxy import fault_proxy
from tests.support.moto_server import MotoServer
from tests.unit.datastore.helpers import NAME, URI, entry

from imagenet_etl.aws import s3_catalog
from imagenet_etl.aws.s3_catalog import catalogs_below, read_catalog, update_catalog
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.errors import AccessDenied, CloudNotFound, CloudUnavailable

PLACE = backup_place(URI, NAME)


def enter(client, version, **more):
    return update_catalog(
        client, PLACE, NAME, lambda known: known.with_entry(version, entry(version=version, **more))
    )


def test_first_entry_makes_the_catalog_and_others_join_it(moto: MotoServer) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    assert read_catalog(client, PLACE, NAME).versions == {}
    enter(client, "v1")
    assert list(enter(client, "v2", at=2.0).versions) == ["v1", "v2"]
    body = client.get_object(Bucket="backups", Key=f"x/{NAME}/catalog.json")["Body"].read()
    assert json.loads(body)["latest"] == "v2"


def test_known_entry_writes_nothing(moto: MotoServer) -> None:
    moto.bucket("backups")
    enter(moto.client("s3"), "v1")
    with fault_proxy(moto.url) as proxy:
        enter(proxy.client("s3"), "v1")
        assert proxy.calls == ["GetObject"]


def test_entry_that_another_made_in_between_is_kept(moto: MotoServer) -> None:
    moto.bucket("backups")
    client, seen = moto.client("s3"), []

    def change(known):
        if not seen:
            enter(client, "other")
        seen.append(list(known.versions))
        return known.with_entry("v1", entry())

    for first_seen in ([], ["other", "v1"]):
        seen.clear()
        catalog = update_catalog(client, PLACE, NAME, change)
        assert sorted(catalog.versions) == ["other", "v1"]
        assert sorted(seen[0]) == first_seen
        assert sorted(read_catalog(client, PLACE, NAME).versions) == ["other", "v1"]


def test_who_is_always_outrun_gives_up(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_catalog, "_PAUSE_S", 0.0)
    monkeypatch.setattr(s3_catalog, "_TRIES", 3)
    moto.bucket("backups")
    with fault_proxy(moto.url) as proxy:
        proxy.answer("PutObject", status=412, code="PreconditionFailed", times=3)
        with pytest.raises(CloudUnavailable, match="written by others all the time"):
            enter(proxy.client("s3"), "v1")
        assert proxy.calls.count("PutObject") == 3


def test_missing_bucket_is_named(moto: MotoServer) -> None:
    with pytest.raises(CloudNotFound, match=r"s3://backups does not exist"):
        enter(moto.client("s3"), "v1")


def test_denied_write_is_tried_once(moto: MotoServer) -> None:
    moto.bucket("backups")
    with fault_proxy(moto.url) as proxy:
        proxy.answer("PutObject", status=403, code="AccessDenied", times=9)
        with pytest.raises(AccessDenied, match="PutObject"):
            enter(proxy.client("s3"), "v1")
        assert proxy.calls.count("PutObject") == 1


def test_catalogs_of_all_datasets_are_found(moto: MotoServer) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    enter(client, "v1")
    client.put_object(Bucket="backups", Key="x/no_catalog/v1/manifest.json", Body=b"")
    assert [item.dataset for item in catalogs_below(client, URI)] == [NAME]
    assert list(catalogs_below(client, "s3://backups")) == []


def test_options_and_checksum_go_with_the_catalog_and_the_key_stays(moto: MotoServer) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    key = moto.client("kms").create_key()["KeyMetadata"]["Arn"]
    options = {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": key,
        "Tagging": "team=vision",
    }
    made, sent = entry(), []
    client.meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: sent.append(params)
    )
    update_catalog(client, PLACE, NAME, lambda known: known.with_entry("v1", made), options)
    where = {"Bucket": "backups", "Key": PLACE.catalog}
    assert client.head_object(**where)["SSEKMSKeyId"] == key
    assert "ChecksumSHA256" in sent[0]
    tags = client.get_object_tagging(**where)["TagSet"]
    assert tags == [{"Key": "team", "Value": "vision"}]
    enter(client, "v2")
    assert client.head_object(**where)["SSEKMSKeyId"] == key

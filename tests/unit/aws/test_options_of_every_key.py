"""Key and tags reach every object that a run leaves in the bucket."""

from __future__ import annotations

from tests.support.moto_server import MotoServer
from tests.unit.aws.conftest import with_settings

from imagenet_etl.build import Build
from imagenet_etl.pipeline import run_stage
from imagenet_etl.publishing import publish_version


def test_every_key_that_a_run_leaves_has_the_key_and_the_tags(
    packed: Build, moto: MotoServer
) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    key = moto.client("kms").create_key()["KeyMetadata"]["Arn"]
    build = with_settings(
        packed,
        moto.client,
        s3_uri="s3://backups/datasets",
        back_up=("archives", "dataset"),
        s3_kms_key=key,
        s3_tags={"team": "vision"},
    )
    try:
        run_stage(build, "back_up_to_s3")
        publish_version(build)
    finally:
        for name in ("back_up_to_s3", "s3_ledger", "s3_uploads"):
            build.storage.delete(f"{build.work}/{name}")
        build.storage.delete(f"{build.published}/registry.json")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket="backups")["Contents"]]
    assert {"catalog.json", "manifest.json", "receipt.json"} <= {k.rpartition("/")[2] for k in keys}
    for name in keys:
        where = {"Bucket": "backups", "Key": name}
        assert client.head_object(**where).get("SSEKMSKeyId") == key, name
        tags = client.get_object_tagging(**where)["TagSet"]
        assert tags == [{"Key": "team", "Value": "vision"}], name

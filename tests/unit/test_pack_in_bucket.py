"""Packing from a bucket writes what packing from a disk does, and tells what reading took."""

import json
import logging
from dataclasses import asdict, replace

import pytest
from tests.support.archives import ARCHIVE, SMALL, STAGES, build_of, run_stages, tiny_zip

from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.aws.worker_client import worker_access
from imagenet_etl.build import new_build
from imagenet_etl.config import Settings
from imagenet_etl.leases import Owner
from imagenet_etl.mapped import run_pack_group
from imagenet_etl.pipeline import run_stage, run_stage_as
from imagenet_etl.segments import READS
from imagenet_etl.selection import Group
from imagenet_etl.stage import Result

SETTINGS = {"expect": "any", "workers": 1, "shuffle": "global"}


def bucket_build(moto, path):
    """Return a locked build with all in a bucket, packed but for the last group of two."""
    uri = moto.bucket("all")
    data = path.read_bytes()
    client = moto.client("s3")
    etag = client.put_object(Bucket="all", Key=ARCHIVE, Body=data)["ETag"]
    ref = ArchiveRef(ARCHIVE, f"{uri}/{ARCHIVE}", len(data), etag)
    access = worker_access(
        client._request_signer._credentials.get_frozen_credentials(), "us-east-1", moto.url,
        {"addressing_style": "path"},
    )  # fmt: skip
    build = new_build(
        Settings("tiny_imagenet", f"{uri}/data", **SETTINGS), Owner("run-1"),
        lambda service, **_: moto.client(service), worker_aws=lambda: access,
    )  # fmt: skip
    return build, ref


def downloaded(ref):
    facts = {"archives": {ref.name: asdict(ref)}, "splits": ["train", "val"], "digests": {},
             "left_out": []}  # fmt: skip
    return lambda _: Result({}, (), facts, base="")


@pytest.fixture
def sample(tmp_path):
    (tmp_path / "site").mkdir()
    return tiny_zip(tmp_path / "site", size=replace(SMALL, train=20))


def test_a_bucket_gives_the_files_of_a_disk_and_counts_its_requests(
    tmp_path, moto, sample, caplog
) -> None:
    on_disk = run_stages(build_of(tmp_path, sample, shuffle="global"), "pack")["pack"]
    build, ref = bucket_build(moto, sample)
    with build.locked() as held, caplog.at_level(logging.INFO):
        run_stage_as(held, "download", downloaded(ref))
        for name in STAGES[1 : STAGES.index("pack")]:
            run_stage(held, name)
        group = run_pack_group(held, Group(1, 1))
        packed = run_stage(held, "pack").receipt
    assert {o.name: o.sha256 for o in packed.outputs} == {o.name: o.sha256 for o in on_disk.outputs}
    assert packed.counts | {"left_out_test": 2} == on_disk.counts
    reads = [json.loads(build.storage.read(key))["reads"] for key, _ in segments(build)]
    assert group == {"segments": len(reads), "images": 66, "quarantined": 0} | {
        name: sum(one[name] for one in reads) for name in READS
    }
    assert group["member_bytes"] <= group["read_bytes"] <= 1.1 * group["member_bytes"]
    assert group["read_requests"] <= 66
    assert f"bytes for {group['member_bytes']:,} bytes of members" in caplog.text


def segments(build):
    return [item for item in build.storage.list("work") if "/segments/" in item[0]]


def test_a_disk_is_no_matter_of_requests(tmp_path, sample) -> None:
    build = build_of(tmp_path, sample)
    run_stages(build, "pack")
    for key, _ in segments(build):
        assert "reads" not in json.loads(build.storage.read(key))

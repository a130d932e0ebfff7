"""An archive in a bucket has the index that it has on a disk, at the price of few requests."""

from dataclasses import asdict, replace

import pytest
from tests.support.archives import ANYTHING, SMALL, ref_of, tiny_zip
from tests.support.class_tars import (
    WHOLE,
    fall11,
    few_classes,
    index_bytes,
    inner_tars,
    make_small_parts,
    untarred,
    whole_tar,
)
from tests.support.fault_proxy import fault_proxy
from tests.support.tars import END, Entry, raw_tar

from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.location import ArchiveRef, open_archive
from imagenet_etl.build import new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import TINY_IMAGENET, facts_of
from imagenet_etl.errors import ArchiveChanged, BadArchive, StillPending
from imagenet_etl.index import member_of
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage, run_stage_as
from imagenet_etl.stage import Result
from imagenet_etl.storage import LocalStorage
from imagenet_etl.storage.s3 import S3Storage

FALL11 = facts_of("imagenet_fall11")
TARS = inner_tars(few_classes(9))


class Bucket:
    """Archives in a bucket, and the requests that reading them takes."""

    def __init__(self, proxy, uri):
        self._proxy = proxy
        self._client = proxy.client("s3", max_pool_connections=80)
        self._uri = uri
        self.storage = S3Storage(self._client, f"{uri}/data")

    def put(self, name, data):
        """Store an archive, and return what tells of it."""
        bucket = self._uri.removeprefix("s3://")
        etag = self._client.put_object(Bucket=bucket, Key=name, Body=data)["ETag"]
        kind = "zip" if name.endswith("zip") else "tar"
        return ArchiveRef(name, f"{self._uri}/{name}", len(data), etag, kind)

    def gets(self):
        """Return the GETs since the last call."""
        count = self._proxy.calls.count("GetObject")
        self._proxy.calls.clear()
        return count


@pytest.fixture(scope="module")
def proxy(moto_of_module):
    with fault_proxy(moto_of_module.url) as running:
        yield running


@pytest.fixture
def bucket(moto, proxy, monkeypatch):
    made = Bucket(proxy, moto.bucket("archives"))
    made.put("any", b"x")
    with made.storage.at("s3://archives").open("any") as opened:
        # What a request is worth is measured, and here only tells of the machine.
        monkeypatch.setattr(type(opened), "seek_bytes", 1 << 20)
    made.gets()
    return made


def rows(storage, ref, facts):
    with open_archive(storage, ref) as archive:
        found = [row for t in Sorter(facts, ref.name).images(archive) for row in t.to_pylist()]
        archive.check()
    return found


def on_disk(tmp_path, ref, data, facts):
    path = tmp_path / ref.name
    path.write_bytes(data)
    return rows(LocalStorage(tmp_path), ref_of(path), facts)


def test_class_tars_are_listed_as_on_a_disk_and_small_ones_take_one_request_each(
    tmp_path, bucket
) -> None:
    data = whole_tar(tmp_path / WHOLE, TARS).read_bytes()
    ref = bucket.put(WHOLE, data)
    listed = rows(bucket.storage, ref, FALL11)
    gets = bucket.gets()
    assert listed == on_disk(tmp_path, ref, data, FALL11)
    assert len(listed) == 27
    assert gets <= 1 + 9


def test_near_members_of_class_tars_are_read_through(bucket) -> None:
    inner = raw_tar(Entry(b"n00000001_%d.JPEG" % k, bytes(100_000)) for k in range(100))
    ref = bucket.put(WHOLE, raw_tar(Entry(b"n0000000%d.tar" % k, inner) for k in (1, 2)))
    with open_archive(bucket.storage, ref) as archive:
        assert sum(t.num_rows for t in Sorter(FALL11, WHOLE).images(archive)) == 200
    # 256 KiB, 1 MiB, then 4 MiB at once: four each, and three for the two class tars' own headers.
    assert bucket.gets() <= 3 + 2 * 5


def test_far_members_of_class_tars_are_hopped_between(bucket) -> None:
    inner = raw_tar(Entry(b"n00000001_%d.JPEG" % k, bytes(2 << 20)) for k in range(3))
    ref = bucket.put(WHOLE, raw_tar(Entry(b"n0000000%d.tar" % k, inner) for k in (1, 2)))
    with open_archive(bucket.storage, ref) as archive:
        members = list(Sorter(FALL11, WHOLE).images(archive))
        cost = archive.counted()
    assert sum(table.num_rows for table in members) == 6
    assert bucket.gets() == cost.gets == 3 + 2 * 4
    assert cost.bytes < 1 << 20


def test_a_zip_takes_few_requests_and_reads_as_on_a_disk(tmp_path, bucket) -> None:
    path = tiny_zip(tmp_path, size=replace(SMALL, train=40))
    ref = bucket.put(path.name, path.read_bytes())
    listed = rows(bucket.storage, ref, TINY_IMAGENET)
    gets = bucket.gets()
    assert listed == rows(LocalStorage(tmp_path), ref_of(path), TINY_IMAGENET)
    assert len(listed) > 100
    assert gets <= 5
    members = [member_of(row) for row in listed]
    with (
        open_archive(bucket.storage, ref) as there,
        open_archive(LocalStorage(tmp_path), ref_of(path)) as here,
    ):
        there.will_need(members)
        assert [there.read(m) for m in members] == [here.read(m) for m in members]
    assert bucket.gets() < 10


def test_an_archive_that_was_replaced_while_class_tars_were_walked_is_noticed(bucket) -> None:
    inner = raw_tar(Entry(b"n00000001_%d.JPEG" % k, bytes(1 << 20)) for k in range(3))
    data = raw_tar(Entry(b"n0000000%d.tar" % k, inner) for k in (1, 2))
    ref = bucket.put(WHOLE, data)
    with open_archive(bucket.storage, ref) as archive:
        sorter = Sorter(FALL11, WHOLE)
        assert list(sorter.own_images(archive, archive.listed())) == []
        bucket.put(WHOLE, data.replace(b"_2.JPEG", b"_7.JPEG"))
        with pytest.raises(ArchiveChanged, match="was replaced"):
            list(sorter.images_inside(archive))


@pytest.mark.parametrize("at", [700, 100_000, 250_000, 300_000])
def test_a_truncated_archive_is_refused_with_the_place_as_on_a_disk(tmp_path, bucket, at) -> None:
    inner = raw_tar(Entry(b"n00000001_%d.JPEG" % k, bytes(30_000)) for k in range(4))
    data = raw_tar(Entry(b"n0000000%d.tar" % k, inner) for k in (1, 2, 3))[:at]
    ref = bucket.put(WHOLE, data)
    with pytest.raises(BadArchive) as on_the_disk:
        on_disk(tmp_path, ref, data, FALL11)
    with pytest.raises(BadArchive) as in_the_bucket:
        rows(bucket.storage, ref, FALL11)
    assert str(in_the_bucket.value) == str(on_the_disk.value)
    assert "fall11_whole.tar is truncated inside n0000000" in str(in_the_bucket.value)


def test_a_damaged_class_tar_is_told_in_the_order_of_the_archive(bucket) -> None:
    good = raw_tar([Entry(b"n00000001_1.JPEG")])
    tars = [good, good[:-1024], b"noise" * 512, good]
    ref = bucket.put(
        WHOLE, raw_tar((Entry(b"n0000000%d.tar" % k, data) for k, data in enumerate(tars)), END)
    )
    with pytest.raises(BadArchive, match=r"n00000001\.tar is truncated at byte"):
        rows(bucket.storage, ref, replace(ANYTHING, layout=FALL11.layout))


def bucket_build(server, ref, slice_s=None):
    """Return a build with its data folder in a bucket, whose archive has been verified."""
    settings = Settings("imagenet_fall11", "s3://archives/data", expect="any", workers=1)
    build = replace(
        new_build(settings, Owner("run-1"), lambda service, **_: server.client(service)),
        slice_s=slice_s,
    )
    facts = {"archives": {ref.name: asdict(ref)}, "splits": ["train"], "digests": {},
             "left_out": []}  # fmt: skip
    with build.locked(hand_on=True) as held:
        run_stage_as(held, "download", lambda _: Result({}, (), facts, base=""))
    return build


def test_slices_over_a_bucket_end_in_the_bytes_of_a_disk(
    tmp_path, bucket, moto, monkeypatch
) -> None:
    make_small_parts(monkeypatch, 12)
    source = whole_tar(tmp_path / "source" / WHOLE, TARS)
    disk = fall11(tmp_path / "disk", source)
    untarred(disk)
    build = bucket_build(moto, bucket.put(WHOLE, source.read_bytes()), slice_s=0)
    for done in (4, 8):
        told = f"{done} of 9 class tars with {3 * done} images"
        with build.locked(hand_on=True) as held, pytest.raises(StillPending, match=told):
            run_stage(held, "untar")
    with build.locked() as held:
        receipt = run_stage(held, "untar").receipt
    assert receipt.counts["train_images"] == 27
    assert build.storage.read(receipt.key_of("images.parquet")) == index_bytes(disk)
    assert not [key for key, _ in build.storage.list("work") if "/parts/" in key]

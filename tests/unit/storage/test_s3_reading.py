"""Reading an object of a bucket: many requests at once, pinned, and again when one breaks off."""

from __future__ import annotations

import random
from typing import Any

import pytest
from botocore.exceptions import ResponseStreamingError
from tests.support.slow_proxy import slow_proxy
from tests.support.storages import describe_new, open_described, opened

from imagenet_etl.errors import ArchiveChanged, CloudNotFound, CloudUnavailable
from imagenet_etl.storage import s3_object
from imagenet_etl.storage.s3 import S3Storage
from imagenet_etl.storage.s3_counts import Counted, Pace, counted

pytestmark = pytest.mark.usefixtures("temporary_folder")

_DATA = random.Random(3).randbytes(700_000)
_SPANS = [(at, 1_000) for at in range(0, 640_000, 10_000)]


@pytest.fixture
def proxy(moto):
    with slow_proxy(moto.url, 0.0) as proxy:
        yield proxy


@pytest.fixture
def bucket(tmp_path, moto, proxy, monkeypatch):
    monkeypatch.setattr(s3_object, "_PAUSES_S", (0.0, 0.0))
    _, uri = describe_new("bucket", tmp_path, moto).split()
    with opened(f"{proxy.url} {uri}") as storage:
        storage.put("a", _DATA)
        proxy.calls.clear()
        proxy.paths.clear()
        yield storage


def gets(proxy) -> int:
    return proxy.calls.count("GetObject")


def test_spans_are_fetched_at_once(bucket, proxy):
    proxy.latency_s = 0.03
    with bucket.open("a") as file:
        file.will_need(_SPANS)
        for offset, size in _SPANS:
            assert file.read_at(offset, size) == _DATA[offset : offset + size]
        assert file.counted == Counted(64, 64_000)
    assert gets(proxy) == 64
    assert proxy.most_at_once >= 16


def test_parts_are_read_by_a_signed_url_and_a_whole_by_its_checksum(bucket, proxy):
    with bucket.open("a") as file:
        assert file.read_at(10, 20) == _DATA[10:30]
        assert file.read_at(0, len(_DATA)) == _DATA
    _head, part, whole = proxy.paths
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in part
    assert "X-Amz-Signature" not in whole


def test_a_url_is_signed_once_for_an_object(bucket, proxy):
    with bucket.open("a") as file:
        for at in range(5):
            file.read_at(at, 1)
    assert len({path for path in proxy.paths if "X-Amz-Signature" in path}) == 1


def test_counts_are_of_a_file_and_of_all_storages_of_one_client(bucket):
    before = bucket.counted
    with bucket.open("a") as one, bucket.at(bucket.url).open("a") as other:
        one.read_at(0, 10)
        other.read_at(0, 5)
        assert counted(one) == Counted(1, 10)
    bucket.read("a")
    assert bucket.counted - before == Counted(3, 15 + len(_DATA))
    assert counted(object()) == Counted()


def test_an_object_replaced_between_asking_and_reading_is_noticed(bucket, proxy):
    with bucket.open("a") as file:
        bucket.put("a", bytes(len(_DATA)))
        file.will_need(_SPANS[:3])
        with pytest.raises(ArchiveChanged, match="/a was replaced"):
            file.read_at(*_SPANS[0])


def test_what_was_fetched_before_the_object_was_replaced_is_the_old_content(bucket):
    with bucket.open("a") as file:
        file.will_need(_SPANS[:1])
        while file.counted.gets < 1:
            pass
        bucket.put("a", bytes(len(_DATA)))
        assert file.read_at(*_SPANS[0]) == _DATA[:1_000]
        with pytest.raises(ArchiveChanged):
            file.read_at(*_SPANS[0])


def test_another_etag_in_the_answer_is_noticed_where_if_match_is_unknown(bucket, moto):
    client = moto.client("s3")

    get = client.get_object

    def ignorant(IfMatch: str, **request: Any) -> Any:  # noqa: N803
        return get(**request)

    with _with_client(bucket, client, ignorant).open("a") as file:
        bucket.put("a", bytes(len(_DATA)))
        with pytest.raises(ArchiveChanged, match="found"):
            file.read_at(0, 10)


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (403, "AccessDenied")])
def test_what_the_cheap_way_is_refused_is_asked_through_boto3(bucket, proxy, status, code):
    proxy.answer("GetObject", status=status, code=code)
    with bucket.open("a") as file:
        assert file.read_at(3, 4) == _DATA[3:7]
    assert gets(proxy) == 2


def test_the_cheap_way_is_given_up_when_it_is_always_refused(bucket, proxy):
    with bucket.open("a") as file:
        for _ in range(3):
            proxy.answer("GetObject", status=403, code="AccessDenied")
            file.read_at(0, 1)
        proxy.paths.clear()
        file.read_at(0, 1)
    assert "X-Amz-Signature" not in proxy.paths[-1]


def test_a_connection_that_was_closed_meanwhile_costs_nothing(bucket, proxy):
    with bucket.open("a") as file:
        file.read_at(0, 1)
        proxy.drop_request("GetObject")
        assert file.read_at(0, 1) == _DATA[:1]
    assert file.counted == Counted(2, 2)


def test_an_object_that_was_removed_is_noticed(bucket):
    with bucket.open("a") as file:
        bucket.delete("a")
        with pytest.raises(ArchiveChanged, match="removed"):
            file.read_at(0, 1)


class _Cut:
    """A body that ends before its end, or breaks off."""

    def __init__(self, breaks: bool) -> None:
        self._breaks = breaks

    def read(self, size: int | None = None) -> bytes:
        if self._breaks:
            raise ResponseStreamingError(error="cut off")
        return b"x"


def _with_client(bucket: S3Storage, client: Any, get_object: Any) -> S3Storage:
    """Return the same storage through a client with one method replaced and no cheap way."""
    client.get_object = get_object
    storage = S3Storage(client, bucket.url)
    storage._session.signed._is_usable = False
    return storage


@pytest.mark.parametrize("breaks", [True, False])
@pytest.mark.parametrize("span", [(0, 10), (0, len(_DATA))])
def test_a_body_that_breaks_off_is_asked_for_again(bucket, moto, breaks, span):
    client = moto.client("s3")
    real, left = client.get_object, [2]

    def cut(**request: Any) -> Any:
        reply = real(**request)
        if left[0]:
            left[0] -= 1
            reply["Body"] = _Cut(breaks)
        return reply

    storage = _with_client(bucket, client, cut)
    with storage.open("a") as file:
        assert file.read_at(*span) == _DATA[: span[1]]
    left[0] = 100
    with storage.open("a") as file, pytest.raises(CloudUnavailable, match="GetObject"):
        file.read_at(*span)
    assert left[0] == 97


def test_blocks_come_several_at_once(bucket, proxy, monkeypatch):
    monkeypatch.setattr(s3_object, "_BLOCK_BYTES", 50_000)
    proxy.latency_s = 0.02
    with bucket.open("a") as file:
        assert b"".join(file.blocks()) == _DATA
    assert 4 <= proxy.most_at_once <= 6
    assert gets(proxy) == 14


def test_a_reader_of_one_block_costs_few(bucket, proxy, monkeypatch):
    monkeypatch.setattr(s3_object, "_BLOCK_BYTES", 50_000)
    with bucket.open("a") as file:
        blocks = file.blocks()
        assert bytes(next(blocks)) == _DATA[:50_000]
        blocks.close()
    assert gets(proxy) <= 2


def test_seeking_costs_what_latency_and_speed_make_of_it():
    pace = Pace()
    assert pace.seek_bytes == 1 << 20
    for _ in range(50):
        pace.note(0.02, 0.01, 1 << 20)
    assert pace.seek_bytes == pytest.approx(2 << 20, rel=0.01)
    pace.note(0.04, 0.01, 10)
    assert pace.seek_bytes < 2.1 * (1 << 20), "one that waited for others tells little"
    pace.note(60, 0.01, 10)
    assert pace.seek_bytes == 8 << 20
    for _ in range(100):
        pace.note(1e-6, 0.01, 1 << 20)
    assert pace.seek_bytes == 64 << 10


def test_a_bucket_that_is_gone_is_named(moto):
    storage = open_described(f"{moto.url} s3://never-made")
    with pytest.raises(CloudNotFound, match="never-made"):
        storage.read("a/b/c")

"""When the cheap way to read is left for boto3's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config

from imagenet_etl.storage.s3_signed import SignedGets, SignedUrl


@pytest.fixture
def served(moto):
    """A client and the signed URL of an object of ten bytes."""
    client = moto.client("s3")
    client.create_bucket(Bucket="signed")
    tag = client.put_object(Bucket="signed", Key="a b/ä", Body=b"0123456789")["ETag"]
    signed = SignedGets(client)
    url = signed.url("signed", "a b/ä", tag)
    assert url is not None
    return signed, url


def test_a_range_of_the_object_comes(served):
    signed, url = served
    answer = signed.get(url, 2, 5)
    assert answer is not None
    assert answer.data == b"23456"
    assert answer.latency_s > 0


def test_bytes_of_another_etag_are_not_taken(served):
    signed, url = served
    assert signed.get(replace(url, tag='"another"'), 2, 5) is None
    assert signed.get(url, 2, 5) is not None


def test_fewer_bytes_than_asked_for_are_not_taken(served):
    signed, url = served
    assert signed.get(url, 8, 5) is None


def test_a_server_that_tls_cannot_talk_to_is_left_to_boto3_for_good(served):
    signed, url = served
    assert signed.get(replace(url, scheme="https"), 2, 5) is None
    assert signed.get(url, 2, 5) is None
    assert signed.url("signed", "x", url.tag) is None


def test_a_server_that_is_gone_is_left_to_boto3_this_time(served):
    signed, url = served
    assert signed.get(replace(url, host="127.0.0.1:9"), 2, 5) is None
    assert signed.get(url, 2, 5) is not None


def test_a_signature_is_shown_nowhere():
    url = SignedUrl("https", "host", "/a?X-Amz-Signature=secret", "tag", 0.0)
    assert "secret" not in repr(url)


@pytest.mark.parametrize(
    "config",
    [{"proxies": {"http": "http://proxy:1"}}, {"client_cert": "cert.pem"},
     {"signature_version": "s3"}, {"signature_version": UNSIGNED}],
    ids=["proxy", "certificate", "version 2", "unsigned"],
)  # fmt: skip
def test_a_client_of_other_ways_keeps_them(moto, config: dict[str, Any]):
    client = moto.client("s3", **config)
    assert isinstance(client.meta.config, Config)
    assert SignedGets(client).url("signed", "a", "tag") is None


def test_a_proxy_of_the_environment_is_not_passed_by(moto, monkeypatch):
    client = moto.client("s3")
    assert SignedGets(client).url("signed", "a", "tag") is not None
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    assert SignedGets(client).url("signed", "a", "tag") is None
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert SignedGets(client).url("signed", "a", "tag") is not None

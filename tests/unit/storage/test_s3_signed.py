"""When the cheap way to read is left for boto3's."""

from __future__ import annotations

import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from tests.support.fault_proxy import fault_proxy

from imagenet_etl.storage import s3_signed
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


def _again(url: SignedUrl, count: int, **change: Any) -> list[SignedUrl]:
    """Return URLs as if they were signed one after the other."""
    return [replace(url, good_until=url.good_until + n, **change) for n in range(1, count + 1)]


def test_a_server_that_tls_cannot_talk_to_is_left_to_boto3_for_good(served, caplog):
    signed, url = served
    urls = iter(_again(url, 7, scheme="https"))
    for refused in (2, 2, 3):
        assert signed.get(url, 2, 5) is not None, "which begins the count anew"
        for other in islice(urls, refused):
            assert signed.get(other, 2, 5) is None
    assert signed.get(url, 2, 5) is None
    assert signed.url("signed", "x", url.tag) is None
    (told,) = caplog.records
    assert url.host in told.getMessage()
    assert "Signature=" not in told.getMessage()


def test_one_url_that_is_refused_many_times_is_one_refusal(served):
    signed, url = served
    expired = replace(url, target=url.target.replace("X-Amz-Signature=", "X-Amz-Signature=0"))
    with fault_proxy(f"http://{url.host}") as proxy:
        proxy.answer("GetObject", status=400, code="ExpiredToken", times=5)
        host = proxy.url.removeprefix("http://")
        for _ in range(5):
            assert signed.get(replace(expired, host=host), 2, 5) is None
        assert proxy.calls == ["GetObject"] * 5
        assert signed.get(replace(url, host=host), 2, 5) is not None


def test_refusals_of_one_host_leave_the_others_alone(served):
    signed, url = served
    host = f"localhost:{url.host.rpartition(':')[2]}"
    for other in _again(url, 3, scheme="https", host=host):
        assert signed.get(other, 2, 5) is None
    assert signed.get(replace(url, host=host), 2, 5) is None
    assert signed.get(url, 2, 5) is not None


class _ThenSilent(BaseRequestHandler):
    """Answers the first request of a connection alone, and keeps the connection."""

    def handle(self) -> None:
        server: Any = self.server
        server.seen.append(self.request)
        self.request.recv(65536)
        if len(server.seen) <= server.wanted:
            server.line.wait(10)  # so that each request of the first has a connection of its own
        self.request.sendall(b'HTTP/1.1 206 Partial\r\nETag: "t"\r\nContent-Length: 4\r\n\r\nabcd')
        server.over.wait(10)


@pytest.fixture
def silent(moto):
    """A way to read with a time limit, three idle connections to a server, and its URL."""
    with ThreadingTCPServer(("127.0.0.1", 0), _ThenSilent) as server:
        state: Any = server
        state.seen, state.wanted = [], 3
        state.line, state.over = threading.Barrier(3), threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        signed = SignedGets(moto.client("s3", read_timeout=0.3))
        url = SignedUrl("http", f"127.0.0.1:{server.server_address[1]}", "/x", '"t"', 0.0)
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: signed.get(url, 0, 4), range(3)))
        assert all(answers)
        yield signed, url, state.seen
        state.over.set()
        server.shutdown()


def test_one_silent_connection_is_waited_for_and_the_other_idle_ones_are_closed(silent):
    signed, url, seen = silent
    began = time.monotonic()
    assert signed.get(url, 0, 4) is None
    assert time.monotonic() - began < 0.6, "not one time limit after the other"
    assert len(seen) == 3
    assert signed.get(url, 0, 4) is not None, "by a new connection"


def test_a_connection_that_was_idle_for_long_is_not_used_again(silent, monkeypatch):
    signed, url, seen = silent
    monkeypatch.setattr(s3_signed, "_IDLE_S", 0)
    assert signed.get(url, 0, 4) is not None
    assert len(seen) == 4


def test_tls_that_breaks_on_an_open_connection_is_no_refusal(served):
    signed, url = served
    assert signed.get(url, 2, 5) is not None
    for idle in signed._idle[url.host]:
        idle.connection.request = _break  # a damaged record
    assert signed.get(url, 2, 5) is not None
    assert signed.url("signed", "a b/ä", url.tag) is not None


def _break(*_: Any, **__: Any) -> None:
    raise ssl.SSLError(1, "bad record mac")


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

"""The publisher's login from an Airflow connection."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import _secrets_masker
from airflow.sdk.log import redact
from tests.support.downloads import CANARY

from imagenet_etl.download.login import Login
from imagenet_etl.errors import ConfigError
from imagenet_operators.login import login_of

pytestmark = pytest.mark.airflow


def connect(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Login:
    fields = {"conn_type": "http"} | fields
    monkeypatch.setenv("AIRFLOW_CONN_IMAGENET_DEFAULT", json.dumps(fields))
    return login_of("imagenet_default")


def test_no_connection_is_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_IMAGENET_DEFAULT", raising=False)
    assert login_of("imagenet_default") == Login()


def test_every_field_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"cookie": "s=1", "headers": {"X-Key": "k"}, "query": {"key": "q"}}
    login = connect(
        monkeypatch, host="https://image-net.org", login="me", password="key", extra=extra
    )
    assert login == Login("image-net.org", "me", "key", "s=1", {"X-Key": "k"}, {"key": "q"})


def test_port_belongs_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connect(monkeypatch, host="mirror", port=8443).host == "mirror:8443"


@pytest.mark.parametrize(("schema", "insecure"), [("http", True), ("https", False), ("", False)])
def test_plain_http_is_allowed_by_the_schema_alone(
    monkeypatch: pytest.MonkeyPatch, schema: str, insecure: bool
) -> None:
    assert connect(monkeypatch, host="http://h", schema=schema).insecure is insecure


def test_connection_as_a_uri_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://me:key@h/?cookie=s%3D1&headers=%7B%22X-Key%22%3A%22k%22%7D&query=a%3Db"
    monkeypatch.setenv("AIRFLOW_CONN_IMAGENET_DEFAULT", uri)
    login = login_of("imagenet_default")
    assert login == Login("h", "me", "key", "s=1", {"X-Key": "k"}, {"a": "b"})


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"cookies": CANARY}, "'cookies'"),
        ({"cookie": [CANARY]}, "cookie"),
        ({"cookie": f"{CANARY}\n"}, "cookie"),
        ({"headers": [CANARY]}, "headers"),
        ({"headers": {"X-Key": 5}}, "headers"),
        ({"headers": {"X-Key": f"{CANARY}\r\n"}}, "X-Key"),
        ({"query": CANARY}, "query"),
        (f'"{CANARY}"', "extra"),
    ],
)
def test_malformed_extra_is_refused_without_telling_it(
    monkeypatch: pytest.MonkeyPatch, extra: Any, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        connect(monkeypatch, host="h", extra=extra)
    assert CANARY not in str(caught.value)


@pytest.fixture
def masker() -> Iterator[None]:
    """Forget afterwards what the test had masked."""
    yield
    _secrets_masker().reset_masker()


SECRETS = {
    "password": {"password": "canary-password"},
    "cookie": {"extra": {"cookie": "canary-cookie"}},
    "part of a cookie": {"extra": {"cookie": "a=1234567; session=canary-part"}},
    "header": {"extra": {"headers": {"X-Key": "canary-header"}}},
    "bearer": {"extra": {"headers": {"Authorization": "Bearer canary-token"}}},
    "query": {"extra": {"query": {"key": "canary-query"}}},
    "encoded": {"extra": {"query": {"key": "canary/query"}}},
}


@pytest.mark.parametrize("fields", SECRETS.values(), ids=SECRETS)
def test_every_secret_is_masked(
    monkeypatch: pytest.MonkeyPatch, masker: None, fields: dict[str, Any]
) -> None:
    connect(monkeypatch, host="h", **fields)
    for secret in ("password", "cookie", "part", "header", "token", "query"):
        if f"canary-{secret}" in json.dumps(fields):
            assert "canary" not in redact(f"it is canary-{secret}.")
    if "canary/query" in json.dumps(fields):
        assert "canary" not in redact("?key=canary%2Fquery")

"""The publisher's login from an Airflow connection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from imagenet_etl.download.login import Login, headers_in, query_in
from imagenet_etl.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Connection

DEFAULT_CONN_ID = "imagenet_default"
_EXTRA = ("cookie", "headers", "query")


def login_of(conn_id: str) -> Login:
    """Return the login of an HTTP connection, an empty one where there is no such connection.

    Host (with or without scheme and port), login and password are fields of the connection; its
    schema ``http`` allows keys to go over plain HTTP. Extra may hold ``cookie``, ``headers`` and
    ``query``. Every secret is masked in Airflow's logs from here on.

    Raises:
        ConfigError: The connection's fields cannot be read or sent; no value is told.
    """
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return Login()
    cookie, headers, query = _extra(connection)
    _mask(connection.password, cookie, headers, query)
    host = connection.host or ""
    return Login(
        host=f"{host}:{connection.port}" if host and connection.port else host,
        user=connection.login or "",
        password=connection.password or "",
        cookie=cookie,
        headers=headers,
        query=query,
        insecure=(connection.schema or "").lower() == "http",
    )


def _extra(connection: Connection) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return cookie, headers and query; the last two may be texts, as in a connection's URI."""
    what = f"extra of the connection {connection.conn_id}"
    try:
        extra: Any = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None  # not told: the error would quote the text
    if not isinstance(extra, dict):
        raise ConfigError(f"{what} cannot be read", expected="a JSON object")
    for key in extra:
        if key not in _EXTRA:
            raise ConfigError(f"{what} holds {key!r}", expected=" or ".join(_EXTRA))
    cookie, headers, query = (extra.get(key) or "" for key in _EXTRA)
    if not isinstance(cookie, str):
        raise ConfigError(f"cookie in the {what} cannot be read", expected="a text")
    return (
        cookie,
        headers if isinstance(headers, dict) else headers_in(str(headers), f"headers in {what}"),
        query if isinstance(query, dict) else query_in(str(query), f"query in {what}"),
    )


def _mask(
    password: str | None, cookie: str, headers: dict[str, str], query: dict[str, str]
) -> None:
    from airflow.sdk.log import mask_secret

    pairs = [pair.strip() for pair in cookie.split(";")]
    words = [word for value in headers.values() for word in str(value).split()]
    plain = [cookie, *(pair.partition("=")[2] for pair in pairs), *words]
    plain += [password or "", *(str(value) for value in (*headers.values(), *query.values()))]
    for secret in plain:
        for form in {secret, quote(secret, safe="")} - {""}:
            mask_secret(form)

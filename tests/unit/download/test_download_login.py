"""What a login may hold, whom it is for, and how it is read from the environment."""

import base64

import pytest

from imagenet_etl.download.login import Login, login_from_environment, with_query, without_query
from imagenet_etl.errors import ConfigError

SECRET = "CANARY7f3e"
COOKIE = {"cookie": "s=1"}


@pytest.mark.parametrize(
    ("host", "url", "applies"),
    [
        ("image-net.org", "https://image-net.org/data/a.tar", True),
        ("image-net.org", "https://www.image-net.org/a.tar", True),
        ("www.image-net.org", "https://image-net.org/a.tar", True),
        ("Image-Net.org", "https://IMAGE-NET.ORG:443/a.tar", True),
        ("image-net.org", "https://user@image-net.org/a.tar", True),
        ("image-net.org", "http://image-net.org/a.tar", False),
        ("image-net.org", "https://image-net.org:8443/a.tar", False),
        ("image-net.org:8443", "https://image-net.org:8443/a.tar", True),
        ("image-net.org", "https://image-net.org.evil.com/a.tar", False),
        ("image-net.org", "https://evilimage-net.org/a.tar", False),
        ("image-net.org", "https://data.image-net.org/a.tar", False),
        ("image-net.org", "https://image-net.org@evil.com/a.tar", False),
        ("", "https://image-net.org/a.tar", False),
    ],
)
def test_login_is_for_its_host_alone(host: str, url: str, applies: bool) -> None:
    assert Login(host=host, cookie="s=1").applies_to(url) is applies


def test_plain_http_needs_to_be_allowed() -> None:
    assert Login(host="h", cookie="s=1", insecure=True).applies_to("http://h/a")


def test_empty_login_applies_to_nothing() -> None:
    assert not Login(host="h").applies_to("https://h/a")


def test_default_host_gives_way_to_a_given_one() -> None:
    assert Login(cookie="s=1").for_host("h").host == "h"
    assert Login(host="own", cookie="s=1").for_host("h").host == "own"


@pytest.mark.parametrize("text", ["https://h:8443/path", "h:8443", " h:8443 "])
def test_host_may_be_given_as_a_url(text: str) -> None:
    assert Login(host=text).host == "h:8443"


@pytest.mark.parametrize("host", ["http://", "h:port", "[::1", "two words", "h\nx", "é"])
def test_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="host"):
        Login(host=host)


def test_headers_carry_user_cookie_and_more() -> None:
    login = Login(user="me", password="clé", cookie="s=1", headers={"X-Key": "k"})
    headers = login.request_headers()
    scheme, _, pair = headers.pop("Authorization").partition(" ")
    assert (scheme, base64.b64decode(pair).decode()) == ("Basic", "me:clé")
    assert headers == {"Cookie": "s=1", "X-Key": "k"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cookie": f"{SECRET}\n"}, "cookie"),
        ({"cookie": f"{SECRET}é"}, "cookie"),
        ({"headers": {"X-Key": f"{SECRET}\r\nX-Other: 1"}}, "X-Key"),
        ({"headers": {f"{SECRET} 1": "a"}}, "headers"),
        ({"headers": {"Range": SECRET}}, "Range"),
        ({"headers": {"cookie": SECRET}, "cookie": SECRET}, "cookie"),
        ({"headers": {"Authorization": SECRET}, "password": SECRET}, "Authorization"),
        ({"headers": {"X-A": SECRET, "x-a": SECRET}}, "x-a"),
        ({"user": f"{SECRET}:x"}, "user"),
    ],
)
def test_what_cannot_be_sent_is_named_and_not_shown(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        Login(**fields)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_no_secret_is_in_the_repr() -> None:
    login = Login("h", SECRET, SECRET, SECRET, {"X": SECRET}, {"k": SECRET})
    assert SECRET not in repr(login)


@pytest.mark.parametrize(
    ("url", "result"),
    [
        ("https://h/a", "https://h/a?key=a%2Bb%26c"),
        ("https://h/a?x=1&y", "https://h/a?x=1&y&key=a%2Bb%26c"),
        ("https://h/a?key=old&x=%20&ke%79=2", "https://h/a?x=%20&key=a%2Bb%26c"),
    ],
)
def test_query_is_added_and_replaces_its_namesakes(url: str, result: str) -> None:
    assert with_query(url, {"key": "a+b&c"}) == result
    assert with_query(url, {}) == url


@pytest.mark.parametrize("query", ["key=a%2Bb", "other=a%2Bb", "a%2Bb"])
def test_secret_is_cut_out_of_a_query(query: str) -> None:
    assert without_query(f"https://h/a?x=1&{query}", {"a+b"}) == "https://h/a?x=1"


def test_environment_gives_all_forms() -> None:
    login = login_from_environment(
        {
            "IMAGENET_HOST": "h",
            "IMAGENET_USER": "me",
            "IMAGENET_ACCESS_KEY": "key",
            "IMAGENET_COOKIE": "s=1",
            "IMAGENET_HEADERS": '{"X-Key": "k"}',
            "IMAGENET_QUERY": "?a=b%26c&d=e+f=",
            "IMAGENET_INSECURE": "1",
        }
    )
    query = {"a": "b&c", "d": "e+f="}
    assert login == Login("h", "me", "key", "s=1", {"X-Key": "k"}, query, insecure=True)


def test_empty_environment_gives_no_login() -> None:
    assert not login_from_environment({})
    assert login_from_environment({"IMAGENET_INSECURE": "0"}) == Login()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMAGENET_HEADERS", SECRET),
        ("IMAGENET_HEADERS", f'["{SECRET}"]'),
        ("IMAGENET_QUERY", SECRET),
        ("IMAGENET_QUERY", f"={SECRET}"),
        ("IMAGENET_INSECURE", SECRET),
    ],
)
def test_unreadable_variable_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        login_from_environment({name: value})
    assert SECRET not in str(caught.value)

from pathlib import Path

import httpx
import pytest

from imagenet_etl.download.redirects import redirect_target, same_origin
from imagenet_etl.download.urls import local_source, mask_url, split_digest
from imagenet_etl.errors import ConfigError, RedirectRefused

HEX = "ab" * 32


@pytest.mark.parametrize(
    "url", ["http://host/a.zip", "https://u:p@host:8443/a?b=c", "HTTP://h/a", "s3://bucket/a/b.tar"]
)
def test_urls_are_not_local(url: str) -> None:
    assert local_source(url) is None


def test_paths_and_file_urls_are_local() -> None:
    assert local_source("/data/a.zip") == Path("/data/a.zip")
    assert local_source("file:///data/a%20b.zip") == Path("/data/a b.zip")
    assert local_source("file://localhost/data/a.zip") == Path("/data/a.zip")
    assert local_source("a.zip") == Path.cwd() / "a.zip"
    assert local_source("~/a.zip") == Path.home() / "a.zip"


@pytest.mark.parametrize(
    "source",
    ["ftp://host/a", "s3://bucket", "s3://bucket/", "s3://B/a", "s3://u:p@bucket/a",
     "s3://bucket/a?versionId=1", "file://host/a", "file:a.zip", "http:///a", "http:a",
     "http://host:port/a", "http://[::1/a", "http://user:pass/word@host/a"],
)  # fmt: skip
def test_what_is_neither_is_refused(source: str) -> None:
    with pytest.raises(ConfigError):
        local_source(source)


def test_digest_is_split_off() -> None:
    assert split_digest(f"http://h/a#sha256={HEX.upper()}") == ("http://h/a", HEX)
    assert split_digest("http://h/a") == ("http://h/a", "")


@pytest.mark.parametrize("digest", ["abc", HEX[:-1] + "g", HEX + "0"])
def test_digest_that_is_none_is_refused(digest: str) -> None:
    with pytest.raises(ConfigError, match="64 hex digits"):
        split_digest(f"http://[h/a#sha256={digest}")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("http://host/a.zip", "http://host/a.zip"),
        ("https://user:pw@host:8443/a", "https://host:8443/a"),
        ("http://host/a?key=s&empty=&x=1", "http://host/a?key=***&empty=***&x=***"),
        ("http://host/a?bare", "http://host/a?***"),
        ("http://host/a?k=v&bare", "http://host/a?k=***&***"),
        ("http://host/a#part", "http://host/a"),
        (f"http://u:p@host/a?k=v#sha256={HEX}", f"http://host/a?k=***#sha256={HEX}"),
        ("http://[::1", "(an unreadable URL)"),
        ("/data/a?b.zip", "/data/a?b.zip"),
    ],
)
def test_what_may_be_secret_is_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_redirects_are_relative_to_the_request() -> None:
    here = httpx.URL("https://host/dir/a")
    assert redirect_target(here, "b?c=d") == httpx.URL("https://host/dir/b?c=d")
    assert redirect_target(here, "//other/b") == httpx.URL("https://other/b")
    up = redirect_target(httpx.URL("http://host/a"), "https://host/a")
    assert up.scheme == "https"


@pytest.mark.parametrize("location", ["http://host/a", "file:///a", "ftp://h/a", "http://h:x/a"])
def test_redirect_that_gives_up_https_is_refused(location: str) -> None:
    with pytest.raises(RedirectRefused):
        redirect_target(httpx.URL("https://host/a"), location)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("http://host:80/b", True),
        ("http://HOST/b", True),
        ("http://host:81/a", False),
        ("https://host/a", False),
        ("http://host.evil/a", False),
    ],
)
def test_origin_is_scheme_host_and_port(other: str, same: bool) -> None:
    assert same_origin(httpx.URL("http://host/a"), httpx.URL(other)) is same

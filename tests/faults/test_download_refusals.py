"""FAULTS 5, 7 and 8: answers that are not the archive, and redirects that lead astray.

Each test runs the real stage against a real server that misbehaves, and ends in one of two states:
the archive with its receipt, or nothing under the final name.
"""

import base64
import hashlib
from pathlib import Path

import pytest
from tests.support.downloads import CANARY, CONTENT, CUT, MIB, OTHER, SHA256, Run, ranges
from tests.support.fault_server import LOGIN_PAGE, Answer, FaultServer

from imagenet_etl.download.http import Wanted, fetch
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.transfer import Job
from imagenet_etl.errors import (
    AuthenticationRequired,
    ChecksumMismatch,
    RedirectRefused,
    SourceNotFound,
    TerminalError,
)
from imagenet_etl.progress import Meter

# 5. A login page.

LOGIN_PAGES = {
    "by type": Answer(body=CONTENT, headers={"Content-Type": "text/html; charset=utf-8"}),
    "by content": Answer(body=LOGIN_PAGE),
    "by content after blanks": Answer(body=b"\n \n" + LOGIN_PAGE, headers={"Content-Type": None}),
    "by status 401": Answer(status=401),
    "by status 403": Answer(status=403, body=LOGIN_PAGE),
}


@pytest.mark.parametrize("size", [None, len(CONTENT)], ids=["any size", "published size"])
@pytest.mark.parametrize("page", LOGIN_PAGES.values(), ids=LOGIN_PAGES)
def test_5_login_page_asks_for_a_login(
    server: FaultServer, tmp_path: Path, page: Answer, size: int | None
) -> None:
    server.always = page
    wanted = Wanted("a.zip", server.url, "zip", size)
    with PartFile(tmp_path / "a.part") as part, pytest.raises(AuthenticationRequired) as caught:
        fetch(Job(wanted, part, Patience(budget_s=5.0, base_s=0.001)), Meter("a", 0, "B"))
    assert isinstance(caught.value, TerminalError)
    assert "--source" in caught.value.remedy
    assert len(server.requests) == 1
    assert part.size == 0


def test_5_session_that_expires_midway_keeps_what_was_fetched(
    server: FaultServer, run: Run
) -> None:
    page = Answer(status=200, body=LOGIN_PAGE, headers={"Content-Type": "text/html"})
    server.script = [Answer(cut_at=CUT), page]
    with pytest.raises(AuthenticationRequired):
        run(server.url)
    run.assert_nothing()
    run(server.url)
    run.assert_complete()
    assert ranges(server)[-1] == f"bytes={MIB}-"


# 7. Wrong bytes.


def test_7_wrong_bytes_once_are_set_aside_and_fetched_again(server: FaultServer, run: Run) -> None:
    server.script = [Answer(body=OTHER), Answer(status=404)]
    with pytest.raises(SourceNotFound):
        run(server.url)
    assert run.aside.read_bytes() == OTHER
    server.requests.clear()
    _, fetched = run(server.url)
    run.assert_complete()
    assert ranges(server) == [None]
    assert fetched == len(OTHER) + len(CONTENT)


def test_7_wrong_bytes_are_removed_once_the_right_ones_are_there(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(body=OTHER)]
    _, fetched = run(server.url)
    run.assert_complete()
    assert not run.aside.exists()
    assert ranges(server) == [None, None]
    assert fetched == len(OTHER) + len(CONTENT)


def test_7_wrong_bytes_twice_are_an_error_that_tells_both_digests(
    server: FaultServer, run: Run
) -> None:
    server.always = Answer(body=OTHER)
    with pytest.raises(ChecksumMismatch) as caught:
        run(server.url)
    assert isinstance(caught.value, TerminalError)
    assert caught.value.expected == f"sha256 {SHA256}"
    assert caught.value.actual == hashlib.sha256(OTHER).hexdigest()
    assert str(run.aside) in caught.value.remedy
    assert len(server.requests) == 2
    run.assert_nothing()


def test_7_wrong_bytes_in_a_resumed_part_are_found(
    server: FaultServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    same = {"ETag": '"same"'}
    server.always = Answer(headers=same)
    server.script = [Answer(body=OTHER, headers=same, cut_at=CUT)]
    wrong = hashlib.sha256(OTHER[:CUT] + CONTENT[CUT:]).hexdigest()
    run(server.url)
    run.assert_complete()
    assert wrong in caplog.text


# 8. Redirects.


def secret_fetch(url: str, path: Path) -> bytes:
    wanted = Wanted("a.zip", url, "zip", headers={"Cookie": CANARY, "X-Key": CANARY})
    with PartFile(path) as part:
        fetch(Job(wanted, part, Patience(budget_s=5.0, base_s=0.001)), Meter("a", 0, "B"))
    return path.read_bytes()


def test_8_redirect_to_another_host_carries_no_credentials(
    server: FaultServer, tmp_path: Path
) -> None:
    with FaultServer(path="/door") as door:
        door.always = Answer(redirect=server.url_at(f"their:{CANARY}@localhost"))
        url = door.url_at(f"user:{CANARY}@127.0.0.1")
        assert secret_fetch(url, tmp_path / "a.part") == CONTENT
    basic = base64.b64encode(f"user:{CANARY}".encode()).decode()
    assert door.requests[0].headers["Authorization"] == f"Basic {basic}"
    assert door.requests[0].headers["Cookie"] == CANARY
    told = str(server.requests[0].headers)
    assert CANARY not in told
    assert "Authorization" not in told


def test_8_redirect_to_another_port_carries_no_cookie(server: FaultServer, tmp_path: Path) -> None:
    with FaultServer() as door:
        door.always = Answer(redirect=server.url, headers={"Set-Cookie": f"s={CANARY}"})
        secret_fetch(door.url, tmp_path / "a.part")
    assert server.requests[0].headers["Cookie"] is None


@pytest.mark.parametrize("location", ["/moved", "absolute"])
def test_8_redirect_on_the_same_host_keeps_the_credentials(
    server: FaultServer, tmp_path: Path, location: str
) -> None:
    server.script = [Answer(redirect=server.url if location == "absolute" else location)]
    url = server.url_at(f"user:{CANARY}@127.0.0.1")
    assert secret_fetch(url, tmp_path / "a.part") == CONTENT
    first, second = server.requests
    assert second.headers["Authorization"] == first.headers["Authorization"]
    assert second.headers["X-Key"] == CANARY


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "ftp://host/a", "http://[::1", "file:x"]
)
def test_8_redirect_to_no_http_url_is_refused(server: FaultServer, run: Run, target: str) -> None:
    server.always = Answer(redirect=target)
    with pytest.raises(RedirectRefused) as caught:
        run(server.url)
    assert isinstance(caught.value, TerminalError)
    assert len(server.requests) == 1
    run.assert_nothing()


def test_8_redirect_from_https_down_to_http_is_refused(
    server: FaultServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(CONTENT, tls=True) as safe:
        monkeypatch.setenv("SSL_CERT_FILE", str(safe.write_ca(tmp_path / "ca.pem")))
        safe.script = [Answer(redirect=server.url)]
        with pytest.raises(RedirectRefused):
            run(safe.url)
        assert server.requests == []
        run.assert_nothing()
        safe.script = [Answer(redirect=safe.path), Answer(drop_at=CUT)]
        run(safe.url)
    run.assert_complete()


def test_8_endless_redirect_is_refused(server: FaultServer, run: Run) -> None:
    server.always = Answer(redirect="/again")
    with pytest.raises(RedirectRefused, match="more than"):
        run(server.url)
    run.assert_nothing()

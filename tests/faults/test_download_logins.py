"""A publisher behind a login: each form opens the door, and no other host sees any of it."""

import logging
import traceback
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.support.downloads import (
    CANARY,
    CONTENT,
    CUT,
    FACTS,
    MIB,
    Run,
    login_forms,
    quick,
    ranges,
)
from tests.support.downloads import sent_logins as sent
from tests.support.fault_server import LOGIN_PAGE, Answer, FaultServer

from imagenet_etl.build import Build
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.login import Login
from imagenet_etl.errors import AuthenticationRequired, ConfigError, EtlError
from imagenet_etl.pipeline import run_stage

FORMS = login_forms(CANARY)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(run: Run, url: str, login: Login, host: str = "") -> Build:
    """Return a build whose login goes to the URL's host, or to another, over HTTP."""
    host = host or urlsplit(url).netloc
    given = replace(login, host=host, insecure=True)
    return run.build(url, login=lambda: given)


def traces(text: str) -> list[str]:
    basic = login_forms(CANARY)["user and key"].request_headers()["Authorization"]
    return [line for line in text.splitlines() if CANARY in line or basic.split()[1] in line]


def test_login_of_each_form_opens_the_door(server: FaultServer, run: Run, form: str) -> None:
    server.admits = lambda request: sent(request) == {form}
    note, count = verified_archive(build(run, server.url, FORMS[form]), FACTS, quick())
    assert (note.source, count) == (server.url, len(CONTENT))
    assert CANARY in str(server.requests[0].headers) + server.requests[0].path or (
        form == "user and key"
    )


def test_resumed_download_carries_the_login_again(server: FaultServer, run: Run, form: str) -> None:
    server.script = [Answer(cut_at=CUT)]
    verified_archive(build(run, server.url, FORMS[form]), FACTS, quick())
    assert [sent(request) for request in server.requests] == [{form}, {form}]
    assert ranges(server) == [None, f"bytes={CUT}-"]


def test_renewed_key_neither_voids_the_note_nor_a_partial_file(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(cut_at=CUT), Answer(status=401)]
    with pytest.raises(AuthenticationRequired):
        verified_archive(build(run, server.url, Login(query={"key": "old"})), FACTS, quick())
    new = Login(query={"key": "new"})
    verified_archive(build(run, server.url, new), FACTS, quick())
    assert ranges(server)[-1] == f"bytes={MIB}-"
    newer = Login(query={"key": "newer"})
    assert verified_archive(build(run, server.url, newer), FACTS, quick())[1] == 0


def test_redirect_on_the_same_host_keeps_the_login(server: FaultServer, run: Run) -> None:
    server.script = [Answer(redirect="/moved")]
    login = replace(FORMS["header"], cookie=f"s={CANARY}")
    verified_archive(build(run, server.url, login), FACTS, quick())
    assert sent(server.requests[1]) == {"cookie", "header"}


def test_redirect_to_another_host_carries_nothing(server: FaultServer, run: Run, form: str) -> None:
    with FaultServer() as door:
        door.always = Answer(redirect=f"{server.url}?key={CANARY}&part=1")
        verified_archive(build(run, door.url, FORMS[form]), FACTS, quick())
    assert sent(door.requests[0]) == {form}
    kept = {"query"} if form != "query" else set()
    assert sent(server.requests[0]) == kept  # what the server itself signs is not ours to cut
    assert "part=1" in server.requests[0].path


@pytest.mark.parametrize(
    "query", [f"key={CANARY}", f"a={CANARY}%20b", CANARY, f"empty=&k={CANARY}"]
)
def test_redirect_to_another_host_does_not_hand_on_the_urls_own_query(
    server: FaultServer, run: Run, query: str
) -> None:
    with FaultServer(path=f"/archive?{query}") as door:
        reflected = query.replace("%20", "+")
        door.always = Answer(redirect=f"{server.url}?{reflected}&part=1&none=")
        verified_archive(run.build(door.url), FACTS, quick())
    assert CANARY in door.requests[0].path
    assert CANARY not in server.requests[0].path
    assert server.requests[0].path.endswith("part=1&none=")


@pytest.mark.parametrize("host", ["localhost:{}", "127.0.0.1", "127.0.0.1:1"])
def test_mirror_on_another_host_or_port_gets_nothing(
    server: FaultServer, run: Run, form: str, host: str
) -> None:
    here = build(run, server.url, FORMS[form], host.format(server.port))
    verified_archive(here, FACTS, quick())
    assert sent(server.requests[0]) == set()


def test_login_without_a_host_is_for_the_publishers(server: FaultServer, run: Run) -> None:
    login = Login(cookie=CANARY, insecure=True)
    facts = replace(FACTS, url=server.url)
    with FaultServer(CONTENT) as mirror:
        verified_archive(run.build(mirror.url, login=lambda: login), facts, quick())
        assert sent(mirror.requests[0]) == set()
    verified_archive(run.build(server.url, login=lambda: login), facts, quick())
    assert sent(server.requests[0]) == {"cookie"}


def test_login_is_not_sent_unencrypted(server: FaultServer, run: Run, form: str) -> None:
    login = replace(FORMS[form], host=f"127.0.0.1:{server.port}")
    with pytest.raises(ConfigError, match="not sent unencrypted") as caught:
        verified_archive(run.build(server.url, login=lambda: login), FACTS, quick())
    assert "https://" in caught.value.remedy
    assert server.requests == []


def test_encrypted_host_gets_the_login(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with FaultServer(CONTENT, tls=True) as safe:
        monkeypatch.setenv("SSL_CERT_FILE", str(safe.write_ca(tmp_path / "ca.pem")))
        login = replace(FORMS[form], host=f"127.0.0.1:{safe.port}")
        verified_archive(run.build(safe.url, login=lambda: login), FACTS, quick())
        assert sent(safe.requests[0]) == {form}


def refused(run: Run, url: str, login: Login, host: str = "") -> str:
    with pytest.raises(AuthenticationRequired) as caught:
        verified_archive(build(run, url, login, host), FACTS, quick())
    assert "--source" in caught.value.remedy
    return caught.value.remedy


PAGES = {"401": Answer(status=401), "403": Answer(status=403), "page": Answer(body=LOGIN_PAGE)}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_login_page_tells_what_to_do_about_it(server: FaultServer, run: Run, page: Answer) -> None:
    server.always = page
    for word in ("imagenet_default", "IMAGENET_USER", "IMAGENET_COOKIE", "IMAGENET_QUERY"):
        assert word in refused(run, server.url, Login())
    assert "sent and not accepted" in refused(run, server.url, FORMS["cookie"])
    assert "keys go to image-net.org only" in refused(
        run, server.url, FORMS["cookie"], "image-net.org"
    )


def test_login_page_behind_a_redirect_tells_where_the_login_stayed(
    server: FaultServer, run: Run
) -> None:
    server.always = Answer(status=403)
    with FaultServer() as door:
        door.always = Answer(redirect=server.url_at("localhost"))
        remedy = refused(run, door.url, FORMS["cookie"])
    assert "redirected to localhost" in remedy


TROUBLE = {
    "refused": [Answer(status=401)],
    "missing": [Answer(status=404)],
    "cut, then busy": [Answer(cut_at=CUT), Answer(status=503, headers={"Retry-After": "3600"})],
    "redirect to nowhere": [Answer(redirect=f"ftp://host/?key={CANARY}")],
    "redirect away": [Answer(redirect=f"http://127.0.0.1:1/?key={CANARY}")] * 99,
    "nothing": [],
}  # fmt: skip


@pytest.mark.parametrize("script", TROUBLE.values(), ids=TROUBLE)
def test_login_is_in_no_exception_log_or_file(
    server: FaultServer,
    run: Run,
    caplog: pytest.LogCaptureFixture,
    form: str,
    script: list[Answer],
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = list(script)
    told = ""
    here = build(run, server.url, FORMS[form])
    patience = replace(quick(), budget_s=0.2)
    try:
        verified_archive(here, FACTS, patience)
        run_stage(here, "download")
    except EtlError as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + str(error.to_dict())
    assert bool(told) == bool(script)
    assert sent(server.requests[0]) == {form}
    assert traces(told + caplog.text + repr(here)) == []
    files = [path for path in run.data.rglob("*") if path.is_file()]
    assert files
    assert [p for p in files if traces(p.read_bytes().decode("latin-1"))] == []

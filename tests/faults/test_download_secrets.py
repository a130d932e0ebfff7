"""FAULT 40 as far as downloads go: no secret in an exception, a log, a receipt or any file."""

import base64
import logging
import traceback
from pathlib import Path

import pytest
from tests.support.downloads import CANARY, CONTENT, CUT, FACTS, OTHER, SHA256, Run
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.http import Wanted, fetch
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.transfer import Job
from imagenet_etl.errors import AuthenticationRequired, ConfigError, EtlError
from imagenet_etl.pipeline import run_stage
from imagenet_etl.progress import Meter

TROUBLE = {
    "login": [Answer(status=401)],
    "missing": [Answer(status=404)],
    "teapot": [Answer(status=418)],
    "no archive": [Answer(body=b"no archive at all" * 99)],
    "busy": [Answer(status=503), Answer(status=503, headers={"Retry-After": "3600"})],
    "cut, then changed twice": [
        Answer(cut_at=CUT), Answer(body=OTHER), Answer(cut_at=CUT), Answer(body=OTHER)
    ],
    "wrong bytes": [Answer(body=OTHER), Answer(body=OTHER)],
    "redirect": [Answer(redirect=f"ftp://user:{CANARY}@host/?key={CANARY}")],
    "redirect to no URL": [Answer(redirect=f"http://user:{CANARY}@host:{CANARY}/?{CANARY}")],
    "redirect away": [Answer(redirect=f"http://user:{CANARY}@127.0.0.1:1/?key={CANARY}")] * 40,
    "nothing": [],
}  # fmt: skip


def traces_of_secrets(text: str) -> list[str]:
    encoded = base64.b64encode(f"user:{CANARY}".encode()).decode()
    return [line for line in text.splitlines() if CANARY in line or encoded in line]


def files_with_secrets(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if traces_of_secrets(path.read_bytes().decode("latin-1"))]


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.INFO, logger=name)
    return caplog


@pytest.mark.parametrize("script", TROUBLE.values(), ids=TROUBLE)
def test_40_secrets_of_a_url_are_in_no_exception_log_or_file(
    server: FaultServer,
    run: Run,
    everything_logged: pytest.LogCaptureFixture,
    script: list[Answer],
) -> None:
    server.script = list(script)
    server.path = f"/archive?{CANARY}&key={CANARY}"
    told = ""
    try:
        run(server.url_at(f"user:{CANARY}@127.0.0.1"), budget_s=0.3)
    except EtlError as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + str(error.to_dict())
    assert bool(told) == bool(script)
    assert CANARY in server.requests[0].path
    assert "HTTP Request: GET" in everything_logged.text
    assert traces_of_secrets(told + everything_logged.text) == []
    assert any(path.is_file() for path in run.data.rglob("*"))
    assert files_with_secrets(run.data) == []


@pytest.mark.parametrize("value", [CANARY, f"{CANARY}\n", f"{CANARY}é"])
def test_40_secret_header_is_in_no_exception_log_or_file(
    server: FaultServer, run: Run, everything_logged: pytest.LogCaptureFixture, value: str
) -> None:
    server.script = [Answer(cut_at=CUT), Answer(status=503)]
    server.always = Answer(status=401)
    wanted = Wanted("a.zip", server.url, "zip", headers={"Cookie": value})
    with PartFile(run.part) as part, pytest.raises((AuthenticationRequired, ConfigError)) as caught:
        fetch(Job(wanted, part, Patience(budget_s=5.0, base_s=0.001)), Meter("a", 0, "B"))
    assert bool(server.requests) == (value == CANARY)
    told = "".join(traceback.format_exception(caught.value)) + repr(wanted)
    assert traces_of_secrets(told + everything_logged.text) == []
    assert files_with_secrets(run.data) == []


def test_40_signed_location_and_cookie_are_not_logged_at_debug(
    server: FaultServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cookie: dict[str, str | None] = {"Set-Cookie": f"s={CANARY}"}
    server.script = [Answer(redirect=f"/archive?key={CANARY}", headers=cookie)]
    run(server.url)
    assert CANARY in server.requests[1].path
    assert traces_of_secrets(caplog.text) == []


def test_40_secrets_of_a_url_are_not_in_the_stage_receipt(server: FaultServer, run: Run) -> None:
    server.path = f"/archive?key={CANARY}"
    url = server.url_at(f"user:{CANARY}@127.0.0.1")
    receipt = run_stage(run.build(f"{url}#sha256={SHA256}"), "download").receipt
    assert receipt.facts["bytes_fetched"] == len(CONTENT)
    assert files_with_secrets(run.data) == []


@pytest.mark.parametrize(
    "source",
    [f"http://user:{CANARY}/x@host/a", f"http://user:a#{CANARY}@host/", f"file://u:{CANARY}@host/a",
     f"ftp://user:{CANARY}@host/a?{CANARY}", f"http://user:{CANARY}@/a", f"http://[{CANARY}/a"],
)  # fmt: skip
def test_40_source_that_is_no_url_is_refused_without_telling_its_secret(
    run: Run, source: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        verified_archive(run.build(source), FACTS)
    assert traces_of_secrets("".join(traceback.format_exception(caught.value))) == []

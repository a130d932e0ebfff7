"""FAULTS 1 to 8, 40 as far as downloads go, kill -9, two runs at once and a full disk.

Each test runs the real stage against a real server that misbehaves, and ends in one of two states:
the archive with its receipt, or nothing under the final name.
"""

import base64
import email.utils
import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.fault_server import LAST_MODIFIED, LOGIN_PAGE, Answer, FaultServer

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import facts_of
from imagenet_etl.download.http import Wanted, fetch
from imagenet_etl.download.notes import Note
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.stage import verified_archive
from imagenet_etl.errors import (
    AuthenticationRequired,
    ChecksumMismatch,
    ConfigError,
    EtlError,
    NotEnoughSpace,
    RedirectRefused,
    SourceChanged,
    SourceUnavailable,
    TerminalError,
    TransientError,
)
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage
from imagenet_etl.progress import Meter

FACTS = facts_of("tiny_imagenet").archives[0]
MIB = 1 << 20
CUT = MIB + 12_345
CANARY = "CANARY7f3e"


def archive_bytes(seed: int = 1, size: int = 3 * MIB + 777) -> bytes:
    return b"PK\x03\x04" + random.Random(seed).randbytes(size - 4)


CONTENT, OTHER = archive_bytes(1), archive_bytes(2)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(CONTENT) as running:
        yield running


@dataclass
class Run:
    """Runs the download of one data folder, as often as a test asks."""

    data: Path

    @property
    def final(self) -> Path:
        return self.data / "archives" / "tiny_imagenet" / FACTS.name

    @property
    def part(self) -> Path:
        return self.final.with_name(FACTS.name + ".part")

    @property
    def aside(self) -> Path:
        return self.final.with_name(FACTS.name + ".mismatch")

    def build(self, url: str) -> Build:
        settings = Settings(
            dataset="tiny_imagenet", data_dir=str(self.data), sources={FACTS.name: url},
            expect="any",
        )  # fmt: skip
        return new_build(settings, Owner(f"run-{random.randbytes(4).hex()}"), no_aws)

    def __call__(self, url: str, budget_s: float = 5.0, sha256: str = SHA256) -> tuple[Note, int]:
        patience = Patience(budget_s=budget_s, base_s=0.001)
        return verified_archive(self.build(f"{url}#sha256={sha256}"), FACTS, patience)

    def assert_complete(self, content: bytes = CONTENT) -> None:
        assert self.final.read_bytes() == content
        receipt = json.loads(self.final.with_name(FACTS.name + ".receipt.json").read_text())
        assert receipt["digests"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert not self.part.exists()
        assert not self.journal.exists()

    @property
    def journal(self) -> Path:
        return self.part.with_name(self.part.name + ".journal")

    def assert_nothing(self) -> None:
        assert not self.final.exists()
        assert not self.final.with_name(FACTS.name + ".receipt.json").exists()


def no_aws(service: str) -> None:
    raise AssertionError(f"a download asked for {service}")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "data")


def ranges(server: FaultServer) -> list[str | None]:
    return [request.headers["Range"] for request in server.requests]


# 1. The connection drops.


@pytest.mark.parametrize("k", [70_000, MIB, MIB + 1, len(CONTENT) - 1])
def test_1_dropped_connection_resumes_with_range_and_if_range(
    server: FaultServer, run: Run, k: int
) -> None:
    server.script = [Answer(drop_at=k)]
    _, fetched = run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={k}-"]
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert server.requests[1].headers["If-Range"] == etag
    assert fetched == server.sent == len(CONTENT)


def test_1_connection_that_drops_again_and_again_still_gets_there(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(cut_at=150_000)] * 12
    run(server.url)
    run.assert_complete()
    assert server.sent == len(CONTENT)


def test_1_resumes_by_last_modified_when_there_is_no_etag(server: FaultServer, run: Run) -> None:
    server.always = Answer(headers={"ETag": None})
    server.script = [Answer(headers={"ETag": None}, cut_at=CUT)]
    run(server.url)
    run.assert_complete()
    assert server.requests[1].headers["If-Range"] == LAST_MODIFIED


def test_1_next_run_resumes_at_the_last_journalled_piece(server: FaultServer, run: Run) -> None:
    server.script = [Answer(cut_at=CUT)]
    server.always = Answer(status=503)
    with pytest.raises(SourceUnavailable):
        run(server.url, budget_s=0.05)
    run.assert_nothing()
    server.always = Answer()
    _, fetched = run(server.url)
    run.assert_complete()
    assert ranges(server)[-1] == f"bytes={MIB}-"
    assert fetched == len(CONTENT) - MIB


# 2. The server ignores Range.


def test_2_ignored_range_starts_over_and_never_appends(server: FaultServer, run: Run) -> None:
    server.script = [Answer(cut_at=CUT), Answer(ignore_range=True)]
    run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={CUT}-"]
    assert server.sent == CUT + len(CONTENT)


def test_2_server_that_ignores_range_and_always_drops_is_given_up(
    server: FaultServer, run: Run
) -> None:
    server.always = Answer(ignore_range=True, cut_at=300_000)
    with pytest.raises(SourceUnavailable, match="peer closed"):
        run(server.url, budget_s=0.3)
    run.assert_nothing()


# 3. Wrong Content-Range.

WRONG_RANGES = {
    "another start": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
    "another total": f"bytes {CUT}-{len(CONTENT) - 1}/{len(CONTENT) + 1}",
    "no total": f"bytes {CUT}-{len(CONTENT) - 1}/*",
    "garbage": "pages 3",
    "missing": None,
}


@pytest.mark.parametrize("wrong", WRONG_RANGES.values(), ids=WRONG_RANGES)
def test_3_wrong_content_range_is_discarded_and_started_over(
    server: FaultServer, run: Run, wrong: str | None
) -> None:
    server.script = [Answer(cut_at=CUT), Answer(headers={"Content-Range": wrong})]
    run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={CUT}-", None]


def test_3_wrong_content_range_twice_is_an_error(server: FaultServer, run: Run) -> None:
    wrong = Answer(headers={"Content-Range": "bytes 7-9/10"})
    server.script = [Answer(cut_at=CUT), wrong, Answer(cut_at=CUT), wrong]
    with pytest.raises(SourceChanged, match="bytes 7-9/10"):
        run(server.url)
    run.assert_nothing()
    assert len(server.requests) == 4


def test_3_range_that_was_not_asked_for_is_refused(server: FaultServer, run: Run) -> None:
    server.always = Answer(status=206, body=CONTENT)
    with pytest.raises(SourceChanged):
        run(server.url)
    run.assert_nothing()


def test_3_more_bytes_than_announced_are_not_written(server: FaultServer, run: Run) -> None:
    longer = Answer(body=CONTENT + OTHER, chunked=True)
    span = f"bytes {CUT}-{len(CONTENT) - 1}/{len(CONTENT)}"
    too_much = Answer(status=206, body=OTHER, chunked=True, headers={"Content-Range": span})
    server.script = [Answer(cut_at=CUT), too_much, Answer()]
    run(server.url)
    run.assert_complete()
    # The published size limits what has no announced length.
    server.script = [longer, longer]
    wanted = Wanted("a", server.url, "zip", size=len(CONTENT))
    with PartFile(run.data / "a.part") as part, pytest.raises(SourceChanged, match="more than"):
        fetch(wanted, part, Meter("a", 0, "B"), Patience(budget_s=5.0, base_s=0.001))


# 4. The file changes midway.


def test_4_changed_etag_discards_what_was_there(server: FaultServer, run: Run) -> None:
    server.script = [Answer(body=OTHER, cut_at=CUT)]
    run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={CUT}-", None]


def test_4_changed_etag_is_noticed_when_the_server_ignores_if_range(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(body=OTHER, cut_at=CUT), Answer(ignore_if_range=True)]
    run(server.url)
    run.assert_complete()
    assert len(server.requests) == 3
    assert not run.aside.exists()  # noticed by its headers, not by its digest


def test_4_changed_last_modified_is_noticed_when_the_server_ignores_if_range(
    server: FaultServer, run: Run
) -> None:
    older = {"ETag": None, "Last-Modified": "Mon, 09 Feb 2015 08:00:00 GMT"}
    newer = Answer(headers={"ETag": None}, ignore_if_range=True)
    server.script = [Answer(body=OTHER, headers=older, cut_at=CUT), newer]
    run(server.url)
    run.assert_complete()
    assert len(server.requests) == 3
    assert not run.aside.exists()  # noticed by its headers, not by its digest


@pytest.mark.parametrize("second", [Answer(), Answer(ignore_range=True)], ids=["206", "200"])
def test_4_changed_size_under_the_same_etag_discards_what_was_there(
    server: FaultServer, run: Run, second: Answer
) -> None:
    same = {"ETag": '"same"'}
    old = Answer(body=OTHER + b"longer", headers=same, cut_at=CUT)
    server.script = [old, Answer(headers=same, ignore_range=second.ignore_range)]
    run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={CUT}-", None]


def test_4_file_that_changes_twice_is_an_error(server: FaultServer, run: Run) -> None:
    third = archive_bytes(3)
    server.script = [Answer(body=OTHER, cut_at=CUT), Answer(), Answer(body=third, cut_at=CUT)]
    with pytest.raises(SourceChanged) as caught:
        run(server.url)
    assert isinstance(caught.value, TerminalError)
    run.assert_nothing()
    assert run.part.stat().st_size == 0


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
        fetch(wanted, part, Meter("a", 0, "B"), Patience(budget_s=5.0, base_s=0.001))
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


# 6. Stall, 429 and 503.


def test_6_stalled_connection_times_out_and_resumes(server: FaultServer, tmp_path: Path) -> None:
    server.script = [Answer(stall_at=CUT)]
    wanted = Wanted("a.zip", server.url, "zip")
    with PartFile(tmp_path / "a.part") as part:
        patience = Patience(budget_s=20.0, base_s=0.001)
        fetch(wanted, part, Meter("a", 0, "B"), patience, timeout_s=0.5)
        assert part.digests()["sha256"] == SHA256
    assert ranges(server) == [None, f"bytes={CUT}-"]


@pytest.mark.parametrize("status", [429, 503])
def test_6_busy_server_is_asked_again_within_the_budget(
    server: FaultServer, run: Run, status: int
) -> None:
    server.script = [Answer(status=status)] * 3
    run(server.url)
    run.assert_complete()
    assert len(server.requests) == 4


def test_6_retry_after_in_seconds_is_honoured(server: FaultServer, run: Run) -> None:
    server.script = [Answer(status=429, headers={"Retry-After": "1"})]
    run(server.url)
    first, second = server.requests
    assert second.at - first.at >= 1.0


def test_6_retry_after_as_a_date_is_honoured(server: FaultServer, run: Run) -> None:
    when = int(time.time()) + 2
    date = email.utils.formatdate(when, usegmt=True)
    server.script = [Answer(status=503, headers={"Retry-After": date})]
    run(server.url)
    assert server.requests[1].at >= when - 0.01


def test_6_retry_after_beyond_the_budget_gives_up_at_once(server: FaultServer, run: Run) -> None:
    server.always = Answer(status=503, headers={"Retry-After": "3600"})
    with pytest.raises(SourceUnavailable, match=r"503.*3600 s"):
        run(server.url, budget_s=5.0)
    assert len(server.requests) == 1
    run.assert_nothing()


def test_6_server_that_stays_busy_is_given_up_when_the_budget_is_spent(
    server: FaultServer, run: Run
) -> None:
    server.always = Answer(status=503)
    with pytest.raises(SourceUnavailable) as caught:
        run(server.url, budget_s=0.5)
    assert isinstance(caught.value, TransientError)
    assert len(server.requests) > 2
    run.assert_nothing()


# 7. Wrong bytes.


def test_7_wrong_bytes_once_are_set_aside_and_fetched_again(server: FaultServer, run: Run) -> None:
    server.script = [Answer(body=OTHER)]
    _, fetched = run(server.url)
    run.assert_complete()
    assert run.aside.read_bytes() == OTHER
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


def test_7_wrong_bytes_in_a_resumed_part_are_found(server: FaultServer, run: Run) -> None:
    same = {"ETag": '"same"'}
    server.always = Answer(headers=same)
    server.script = [Answer(body=OTHER, headers=same, cut_at=CUT)]
    run(server.url)
    run.assert_complete()
    assert run.aside.read_bytes() == OTHER[:CUT] + CONTENT[CUT:]


# 8. Redirects.


def secret_fetch(url: str, path: Path) -> bytes:
    wanted = Wanted("a.zip", url, "zip", headers={"Cookie": CANARY, "X-Key": CANARY})
    with PartFile(path) as part:
        fetch(wanted, part, Meter("a", 0, "B"), Patience(budget_s=5.0, base_s=0.001))
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


# 40. Secrets.

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
        fetch(wanted, part, Meter("a", 0, "B"), Patience(budget_s=5.0, base_s=0.001))
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


# Kill -9, two runs, full disk.


def start_download(run: Run, url: str, version: str = "v1") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "imagenet_etl", "download", "tiny_imagenet"]
    command += ["--data-dir", str(run.data), "--expect", "any", "--version", version]
    command += ["--source", f"{FACTS.name}={url}#sha256={SHA256}"]
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root / "include")}
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if condition():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise AssertionError("nothing happened within 30 s")


def test_killed_process_is_resumed_by_the_next_with_fewer_bytes_than_the_whole(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(stall_at=2 * MIB + 99)]
    first = start_download(run, server.url)
    wait_until(lambda: run.part.exists() and run.part.stat().st_size == 2 * MIB + 99, first)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    first.communicate()
    run.assert_nothing()
    second = start_download(run, server.url)
    told = second.communicate(timeout=60)[1]
    assert second.returncode == 0, told
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={2 * MIB}-"]
    assert server.requests[1].sent == len(CONTENT) - 2 * MIB


@pytest.mark.parametrize("size", [2 * MIB, 3 * MIB + 777], ids=["whole pieces", "odd size"])
def test_process_that_died_before_publishing_a_complete_part_is_finished(
    server: FaultServer, run: Run, size: int
) -> None:
    server.content = archive_bytes(4, size)
    with PartFile(run.part) as part:
        wanted = Wanted(FACTS.name, server.url, "zip")
        fetch(wanted, part, Meter("a", 0, "B"), Patience(budget_s=5.0))
    run(server.url, sha256=hashlib.sha256(server.content).hexdigest())
    run.assert_complete(server.content)
    assert server.requests[-1].sent == size % MIB
    assert len(server.requests) == 2


def test_process_that_died_around_publishing_leaves_nothing_that_needs_a_person(
    server: FaultServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a digest nothing but the receipt can prove the archive, so both come or neither."""
    build = run.build(server.url)

    def killed(key: str, path: Path) -> None:
        raise KeyboardInterrupt

    publish = build.storage.publish
    monkeypatch.setattr(build.storage, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        verified_archive(build, FACTS)
    assert not run.final.exists()

    def killed_after(key: str, path: Path) -> None:
        publish(key, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(build.storage, "publish", killed_after)
    with pytest.raises(KeyboardInterrupt):
        verified_archive(build, FACTS)
    requests = len(server.requests)
    _, fetched = verified_archive(run.build(server.url), FACTS)
    assert fetched == 0
    assert len(server.requests) == requests
    assert run.final.read_bytes() == CONTENT


def test_two_runs_at_once_fetch_an_archive_only_once(server: FaultServer, run: Run) -> None:
    server.always = Answer(stall_at=CUT)
    first = start_download(run, server.url, "v1")
    wait_until(lambda: server.sent == CUT, first)
    second = start_download(run, server.url, "v2")
    assert second.stderr is not None
    assert "another run is downloading" in second.stderr.readline()
    server.resumed.set()
    told = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    run.assert_complete()
    assert len(server.requests) == 1
    assert server.sent == len(CONTENT)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("answer", [Answer(), Answer(chunked=True)], ids=["known", "unknown"])
def test_full_disk_is_a_typed_error_and_the_next_run_resumes(
    server: FaultServer, small_disk: Path, answer: Answer
) -> None:
    run = Run(small_disk)
    server.always = answer
    with pytest.raises(NotEnoughSpace):
        run_stage(run.build(f"{server.url}#sha256={SHA256}"), "download")
    run.assert_nothing()
    assert server.requests[0].sent == 0 or answer.chunked or run.part.stat().st_size == 0
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    run_stage(run.build(f"{server.url}#sha256={SHA256}"), "download")
    run.assert_complete()
    assert ranges(server)[-1] == (f"bytes={MIB}-" if answer.chunked else None)

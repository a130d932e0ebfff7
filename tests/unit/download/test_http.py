import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl.download.answers import HEAD_BYTES
from imagenet_etl.download.http import Wanted, fetch
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.transfer import Job
from imagenet_etl.errors import (
    ChecksumMismatch,
    ConfigError,
    EtlError,
    SourceError,
    SourceNotFound,
    SourceUnavailable,
)
from imagenet_etl.progress import Meter

CONTENT = b"PK\x03\x04" + random.Random(3).randbytes(400_000)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(CONTENT) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.part"


def get(wanted: Wanted, path: Path, budget_s: float = 5.0) -> Meter:
    meter = Meter("a", 0, "B")
    with PartFile(path) as part:
        fetch(Job(wanted, part, Patience(budget_s=budget_s, base_s=0.001)), meter)
    return meter


def assert_refused(
    kind: type[EtlError], wanted: Wanted, path: Path, budget_s: float = 5.0
) -> EtlError:
    with pytest.raises(kind) as caught:
        get(wanted, path, budget_s)
    assert type(caught.value) is kind
    assert path.stat().st_size == 0
    return caught.value


def test_whole_file_arrives_in_one_request(server: FaultServer, path: Path) -> None:
    meter = get(Wanted("a", server.url, "zip", size=len(CONTENT)), path)
    assert path.read_bytes() == CONTENT
    assert (meter.items, meter.bytes) == (len(CONTENT), len(CONTENT))
    assert [r.headers["Accept-Encoding"] for r in server.requests] == ["identity"]


def test_file_of_unknown_length_arrives(server: FaultServer, path: Path) -> None:
    server.always = Answer(chunked=True)
    get(Wanted("a", server.url, "zip"), path)
    assert path.read_bytes() == CONTENT


def test_length_is_learned_from_the_first_range(server: FaultServer, path: Path) -> None:
    server.script = [Answer(chunked=True, cut_at=99_999), Answer(cut_at=100_000)]
    get(Wanted("a", server.url, "zip"), path)
    assert path.read_bytes() == CONTENT
    assert [r.headers["Range"] for r in server.requests] == [
        None, "bytes=99999-", "bytes=199999-"
    ]  # fmt: skip


def test_server_that_sends_less_than_the_range_is_asked_for_the_rest(
    server: FaultServer, path: Path
) -> None:
    short = Answer(
        status=206, ignore_range=True, body=CONTENT[99_999:150_000],
        headers={"Content-Range": f"bytes 99999-149999/{len(CONTENT)}", "ETag": None},
    )  # fmt: skip
    server.script = [Answer(chunked=True, cut_at=99_999), short]
    get(Wanted("a", server.url, "zip"), path)
    assert path.read_bytes() == CONTENT
    assert server.requests[2].headers["Range"] == "bytes=150000-"


def test_patience_starts_with_the_download(server: FaultServer, path: Path) -> None:
    server.script = [Answer(status=503)]
    patience = Patience(budget_s=5.0, base_s=0.001)
    patience._since -= 100.0  # it was made long before, while another run held the archive
    with PartFile(path) as part:
        fetch(Job(Wanted("a", server.url, "zip"), part, patience), Meter("a", 0, "B"))
    assert path.read_bytes() == CONTENT


def test_without_a_validator_nothing_is_resumed(server: FaultServer, path: Path) -> None:
    bare: dict[str, str | None] = {"ETag": None, "Last-Modified": None}
    server.script = [Answer(headers=bare, cut_at=99_999), Answer(headers=bare)]
    get(Wanted("a", server.url, "zip"), path)
    assert path.read_bytes() == CONTENT
    assert [r.headers["Range"] for r in server.requests] == [None, None]


def test_weak_etag_is_no_validator(server: FaultServer, path: Path) -> None:
    weak: dict[str, str | None] = {"ETag": 'W/"1"', "Last-Modified": None}
    server.script = [Answer(headers=weak, cut_at=99_999)]
    get(Wanted("a", server.url, "zip"), path)
    assert [r.headers["Range"] for r in server.requests] == [None, None]


def test_refused_range_starts_over(server: FaultServer, path: Path) -> None:
    server.script = [Answer(cut_at=99_999), Answer(status=416)]
    get(Wanted("a", server.url, "zip"), path)
    assert path.read_bytes() == CONTENT
    assert server.requests[2].headers["Range"] is None


def test_nothing_is_lost_when_small_blocks_are_cut(server: FaultServer, path: Path) -> None:
    server.script = [Answer(cut_at=1_000)] * 3
    get(Wanted("a", server.url, "zip"), path)
    assert [r.headers["Range"] for r in server.requests] == [
        None, "bytes=1000-", "bytes=2000-", "bytes=3000-"
    ]  # fmt: skip


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_trouble_is_tried_again(server: FaultServer, path: Path, status: int) -> None:
    server.script = [Answer(status=status)]
    get(Wanted("a", server.url, "zip"), path)
    assert path.read_bytes() == CONTENT


def test_empty_answer_is_tried_again(server: FaultServer, path: Path) -> None:
    server.script = [Answer(body=b"")]
    get(Wanted("a", server.url, "zip"), path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, SourceNotFound), (410, SourceNotFound), (400, SourceError), (418, SourceError),
     (501, SourceError), (204, SourceError), (300, SourceError), (304, SourceError)],
)  # fmt: skip
def test_lasting_trouble_is_an_error_at_once(
    server: FaultServer, path: Path, status: int, kind: type[EtlError]
) -> None:
    server.always = Answer(status=status)
    error = assert_refused(kind, Wanted("a", server.url, "zip"), path)
    assert server.url in str(error)
    assert str(status) in error.found
    assert len(server.requests) == 1


def test_other_size_than_published_is_refused_from_the_headers(
    server: FaultServer, path: Path
) -> None:
    error = assert_refused(ChecksumMismatch, Wanted("a", server.url, "zip", size=1234), path)
    assert (error.expected, error.found) == ("1,234 bytes", f"{len(CONTENT):,} bytes")
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_file_of_another_kind_is_refused_by_its_first_bytes(
    server: FaultServer, path: Path, kind: str
) -> None:
    server.content = b"\x1f\x8b" + CONTENT
    error = assert_refused(SourceError, Wanted("a", server.url, kind), path)
    assert f"no {kind} archive" in str(error)


def test_tar_is_known_by_its_magic(server: FaultServer, path: Path) -> None:
    server.content = b"a" * 257 + b"ustar" + b"\0" * 1000
    get(Wanted("a", server.url, "tar"), path)
    assert path.read_bytes() == server.content


def test_unreachable_server_is_transient(path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        assert_refused(SourceUnavailable, Wanted("a", url, "zip"), path, budget_s=0.05)


def test_single_bytes_do_not_hold_up_the_first_look(server: FaultServer, path: Path) -> None:
    server.script = [Answer(drip_s=0.1)]
    with PartFile(path) as part:
        job = Job(Wanted("a", server.url, "zip"), part, Patience(budget_s=5.0, base_s=0.001))
        fetch(job, Meter("a", 0, "B"), timeout_s=0.5)
    assert path.read_bytes() == CONTENT
    assert 0 < server.requests[0].sent < HEAD_BYTES


def test_server_that_only_sends_single_bytes_is_given_up(server: FaultServer, path: Path) -> None:
    server.always = Answer(drip_s=0.1)
    with PartFile(path) as part, pytest.raises(SourceUnavailable, match=r"bytes in 0\.3 s"):
        job = Job(Wanted("a", server.url, "zip"), part, Patience(budget_s=0.5, base_s=0.001))
        fetch(job, Meter("a", 0, "B"), timeout_s=0.3)


def test_short_file_may_come_in_single_bytes(server: FaultServer, path: Path) -> None:
    server.content = b"PK\x03\x04 short"
    server.always = Answer(drip_s=0.001)
    get(Wanted("a", server.url, "zip"), path)
    assert path.read_bytes() == server.content


@pytest.mark.parametrize("header", ["a\r\nb", "ä"])
def test_header_that_cannot_be_sent_is_a_setting_to_mend(
    server: FaultServer, path: Path, header: str
) -> None:
    wanted = Wanted("a", server.url, "zip", headers={"Cookie": header})
    assert_refused(ConfigError, wanted, path)
    assert server.requests == []


def test_other_url_does_not_continue_the_part(server: FaultServer, path: Path) -> None:
    server.script = [Answer(cut_at=99_999), Answer(status=404)]
    with PartFile(path) as part:
        with pytest.raises(SourceNotFound):
            job = Job(Wanted("a", server.url, "zip"), part, Patience(base_s=0.001))
            fetch(job, Meter("a", 0, "B"))
        assert part.size == 99_999
        mirror = Wanted("a", server.url_at("localhost"), "zip")
        fetch(Job(mirror, part, Patience()), Meter("a", 0, "B"))
    assert server.requests[-1].headers["Range"] is None
    assert path.read_bytes() == CONTENT


def test_wanted_does_not_show_its_secrets() -> None:
    shown = repr(Wanted("a", "http://u:canary@h/", "zip", headers={"Cookie": "canary"}))
    assert "canary" not in shown

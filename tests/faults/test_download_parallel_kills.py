"""kill -9 of a process that downloads several ranges at once."""

import hashlib
import time
from pathlib import Path

import pytest
from tests.support.children import kill, python, wait_until
from tests.support.downloads import MIB, archive_bytes, quick
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl.download.http import fetch
from imagenet_etl.download.journal import journal_of, read_journal
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.slices import Pace
from imagenet_etl.download.transfer import Job
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.progress import Meter

SIZE = 16 * MIB + 99
CONTENT = archive_bytes(21, SIZE)
DOWNLOAD = """
import sys
from pathlib import Path
from imagenet_etl.download.http import fetch
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.slices import Pace
from imagenet_etl.download.transfer import Job
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.progress import Meter

with PartFile(Path(sys.argv[1])) as part:
    fetch(Job(Wanted("a", sys.argv[2], "zip"), part, Patience(), Pace(4)), Meter("a", 0, "B"))
"""


@pytest.mark.parametrize("pieces", [2, 7, 12])
def test_killed_download_costs_at_most_the_pieces_in_flight(tmp_path: Path, pieces: int) -> None:
    path = tmp_path / "a.part"

    def proven() -> int:
        journal = read_journal(journal_of(path))
        return len(journal.proven) if journal else 0

    with FaultServer(CONTENT) as server:
        server.always = Answer(pause_s=0.003)
        with python(DOWNLOAD, path, server.url) as process:
            assert wait_until(lambda: proven() >= pieces, 60)
            kill(process)
        there = proven()
        time.sleep(0.1)  # for the server to notice
        sent = sum(min(request.sent, MIB) for request in server.requests)
        assert sent - there * MIB <= 4 * MIB
        server.always, server.requests = Answer(), []
        meter = Meter("a", 0, "B")
        with PartFile(path) as part:
            fetch(Job(Wanted("a", server.url, "zip"), part, quick(), Pace(4)), meter)
            digests = part.digests()
    assert meter.bytes == SIZE - there * MIB
    assert None not in [request.headers["Range"] for request in server.requests]
    assert digests["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert path.read_bytes() == CONTENT

"""Downloads of one archive from a server that misbehaves, and what must be left of them."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.builds import tiny_build
from tests.support.fault_server import FaultServer, Request

from imagenet_etl.build import Build
from imagenet_etl.datasets import facts_of
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.login import Login
from imagenet_etl.download.notes import Note
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.errors import SourceUnavailable, StillPending

FACTS = facts_of("tiny_imagenet").archives[0]
MIB = 1 << 20
CUT = MIB + 12_345
CANARY = "CANARY7f3e"


def archive_bytes(seed: int = 1, size: int = 3 * MIB + 777) -> bytes:
    return b"PK\x03\x04" + random.Random(seed).randbytes(size - 4)


CONTENT, OTHER = archive_bytes(1), archive_bytes(2)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Run:
    """Runs the download of one data folder, as often as a test asks."""

    data: Path
    place: str = SHA256[:12]

    @property
    def final(self) -> Path:
        return self.data / "archives" / "tiny_imagenet" / self.place / FACTS.name

    @property
    def part(self) -> Path:
        return self.final.with_name(FACTS.name + ".part")

    @property
    def aside(self) -> Path:
        return self.final.with_name(FACTS.name + ".mismatch")

    def build(self, url: str, **parts: Any) -> Build:
        """Return a build of a new run; ``parts`` are its login and AWS clients."""
        owner = f"run-{random.randbytes(4).hex()}"
        build = tiny_build(self.data, owner, sources={FACTS.name: url}, expect="any")
        return replace(build, **parts)

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


def quick() -> Patience:
    """Return a patience that waits next to nothing between tries."""
    return Patience(budget_s=5.0, base_s=0.001)


def login_forms(secret: str) -> dict[str, Login]:
    """Return a login of each form."""
    return {
        "user and key": Login(user="user", password=secret),
        "cookie": Login(cookie=f"a=1; session={secret}"),
        "header": Login(headers={"X-Key": secret}),
        "query": Login(query={"key": secret}),
    }


def sent_logins(request: Request) -> set[str]:
    """Return which forms of ``login_forms`` a request carried."""
    names = {"user and key": "Authorization", "cookie": "Cookie", "header": "X-Key"}
    found = {form for form, name in names.items() if request.headers[name] is not None}
    return found | ({"query"} if "key=" in request.path else set())


def append(part: PartFile, data: bytes) -> None:
    """Write on as one stream does: from piece to piece."""
    view = memoryview(data)
    while view:
        piece = part.take()
        assert piece is not None
        now, view = view[: piece.room], view[piece.room :]
        part.write(piece, now)
        if piece.room:
            part.give_back(piece)


def ranges(server: FaultServer) -> list[str | None]:
    return [request.headers["Range"] for request in server.requests]


def makes_way(work: Callable[[], object]) -> StillPending:
    """Run a slice that ends before the download does, and return what it says.

    On a busy machine a short slice may be too short for a single piece: then it is run again.
    """
    for _ in range(20):
        try:
            work()
        except StillPending as pending:
            return pending
        except SourceUnavailable as error:
            if not is_too_short(error):
                raise
        else:
            break
    raise AssertionError("no slice ended before the download")


def is_too_short(error: Exception) -> bool:
    """Tell whether a slice was too short for a single piece, as a busy machine makes it."""
    return "too little in a slice" in str(error)

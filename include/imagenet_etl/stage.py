"""What a stage is, and the place it works in."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagenet_etl.build import Build
from imagenet_etl.config import Settings
from imagenet_etl.errors import KeyExists
from imagenet_etl.files import hash_file
from imagenet_etl.receipts import Output, Receipt, outputs_intact
from imagenet_etl.storage import Storage


@dataclass(frozen=True)
class Result:
    """What a stage function hands back; the pipeline makes the receipt of it.

    Attributes:
        counts: Images, classes, bytes and the like; part of the receipt's digest.
        outputs: The files made, all published.
        facts: Further results for later stages.
        quarantined: What was left out, and why.
        base: Where the outputs are; None for the stage's own folder.
        identity: What else tells this result from another with equal outputs.
    """

    counts: dict[str, int]
    outputs: tuple[Output, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    quarantined: tuple[dict[str, Any], ...] = ()
    base: str | None = None
    identity: str = ""


@dataclass(frozen=True)
class Place:
    """A stage's own folder, ``work/<dataset>/<stage>/<digest>``, and the receipts before it.

    Attributes:
        build: The run's view of the dataset.
        done: Receipts of the earlier stages, by name.
        digest: The stage digest.
        base: Key of the stage's folder.
    """

    build: Build
    done: Mapping[str, Receipt]
    digest: str
    base: str

    def scratch(self, suffix: str = "") -> Path:
        """Return a fresh path in the staging folder."""
        return self.build.storage.staging() / f"{uuid.uuid4().hex}{suffix}"

    def publish(self, name: str, path: Path) -> Output:
        """Publish a finished file under the stage's folder."""
        sha256 = hash_file(path, "sha256")["sha256"]
        return publish_output(self.build.storage, self.base, name, path, sha256)


def publish_output(storage: Storage, base: str, name: str, path: Path, sha256: str) -> Output:
    """Publish a finished file of a stage or segment that has no receipt yet.

    A file that bears the key already was left by a process that died before its receipt, or comes
    from one that works beside this one: equal content is kept, other content is replaced, since
    nothing vouches for it.
    """
    key, size = f"{base}/{name}", path.stat().st_size
    try:
        stat = storage.publish(key, path)
    except KeyExists:
        there = storage.stat(key)
        if there is not None and storage.digest(key) == (size, sha256):
            path.unlink()
            return Output(name, size, sha256, there.tag)
        storage.remove(key)
        stat = storage.publish(key, path)
    return Output(name, size, sha256, stat.tag)


@dataclass(frozen=True)
class Stage:
    """One step of the way from archive to dataset.

    Attributes:
        name: Also the task's id and the command's name.
        version: Raised whenever the code changes the result for equal input.
        reads: The settings that decide the result.
        run: Does the work.
        after: The stage it builds on, for a stage that is in no dataset's chain of local stages.
        not_asked: Why an optional stage has nothing to do; nothing when it was asked for.
        tools: Versions of the codecs that decide the result.
        still_true: Tells whether the result that a receipt notes is still there; cheap.
        is_whole: Looks closer, before the stage itself is passed over as done.
        tidy: Removes what only served to get to the result, once its receipt is there.
        why_idle: Why a stage of the chain only hands on what it got; nothing when it has work.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    run: Callable[[Place], Result]
    after: str = ""
    not_asked: Callable[[Settings], str] = lambda _settings: ""
    tools: Callable[[], dict[str, str]] = dict
    still_true: Callable[[Build, Receipt], bool] = outputs_intact
    is_whole: Callable[[Build, Receipt], bool] = lambda _build, _receipt: True
    tidy: Callable[[Place], None] = lambda _place: None
    why_idle: Callable[[Settings], str] = lambda _settings: ""


@dataclass(frozen=True)
class Outcome:
    """A stage's receipt, whether it was there already, and why it had nothing to do by itself."""

    receipt: Receipt
    reused: bool
    idle: str = ""

    def told(self) -> str:
        """Return the counts in words."""
        return counts_in_words(self.receipt.counts)


def counts_in_words(counts: dict[str, int]) -> str:
    """Return counts for people, such as ``2,000 train images, 20 classes``."""
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items())

"""The only definition of "done": a receipt, written last, whose digest and outputs still match."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from imagenet_etl.build import Build
from imagenet_etl.files import check_schema, digest_of, pretty_json
from imagenet_etl.storage import Stat, Storage
from imagenet_etl.storage.many import stats_of

RECEIPT_SCHEMA = 1


@dataclass(frozen=True)
class Output:
    """One file a stage made.

    Attributes:
        name: Its key below the receipt's ``base``.
        size: Bytes.
        sha256: Hex digest of the content.
        tag: mtime in nanoseconds or ETag when the receipt was written.
    """

    name: str
    size: int
    sha256: str
    tag: str = ""


@dataclass(frozen=True)
class Receipt:
    """What a finished stage leaves.

    Attributes:
        stage: The stage's name.
        stage_digest: Digest of everything that decides the result (see ``stage_digest_of``).
        base: Key of the folder that ``outputs`` are below; empty for the data folder itself.
        outputs: The files.
        counts: Images, classes, bytes and the like.
        facts: Further results that later stages read.
        inputs: Digest of each receipt this one builds on.
        settings: The settings that the stage read.
        tools: Versions of what made it.
        quarantined: Items that were left out, with their reasons.
        identity: What else tells this result from another with equal outputs.
        seconds: How long it took.
        finished_at: Seconds since the epoch.
    """

    stage: str
    stage_digest: str
    base: str
    outputs: tuple[Output, ...]
    counts: dict[str, int]
    facts: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    quarantined: tuple[dict[str, Any], ...] = ()
    identity: str = ""
    seconds: float = 0.0
    finished_at: float = field(default_factory=time.time)
    schema_version: int = RECEIPT_SCHEMA

    @property
    def digest(self) -> str:
        """Digest of the result itself: equal results are equal however they came about.

        Which class has which label is a result, too, and stands in no file before it is packed.
        """
        return digest_of(
            {
                "stage": self.stage,
                "outputs": [(item.name, item.size, item.sha256) for item in self.outputs],
                "counts": self.counts,
                "inputs": self.inputs,
                "identity": self.identity,
                "classes": self.facts.get("classes"),
            }
        )

    def key_of(self, name: str) -> str:
        """Return the storage key of one of the outputs."""
        return f"{self.base}/{name}" if self.base else name

    def to_json(self) -> bytes:
        """Encode for ``from_json``."""
        return pretty_json(asdict(self))

    @staticmethod
    def from_json(data: bytes, name: str) -> Receipt | None:
        """Decode a receipt; None when it is damaged, which is as good as none.

        Args:
            data: What ``to_json`` gave.
            name: Its key, for the error.

        Raises:
            SchemaTooNew: A newer version of this project wrote it.
        """
        try:
            fields = json.loads(data)
            check_schema(name, fields["schema_version"], RECEIPT_SCHEMA)
            outputs = tuple(Output(**item) for item in fields.pop("outputs"))
            quarantined = tuple(fields.pop("quarantined"))
            return Receipt(**fields, outputs=outputs, quarantined=quarantined)
        except (ValueError, KeyError, TypeError):
            return None


def stage_digest_of(
    stage: str,
    version: int,
    settings: dict[str, Any],
    inputs: dict[str, str],
    tools: dict[str, str],
) -> str:
    """Return the digest of everything that decides a stage's result.

    Args:
        stage: The stage's name.
        version: Its version, raised whenever its code changes its result.
        settings: Exactly the settings it reads.
        inputs: Digests of the receipts it builds on.
        tools: Versions of the codecs, where pixels are written.
    """
    return digest_of([stage, version, settings, inputs, tools])


def outputs_intact(build: Build, receipt: Receipt) -> bool:
    """Return whether every output still has the size and tag that the receipt noted."""
    return are_intact(build.storage, receipt.base, receipt.outputs)


def are_intact(storage: Storage, base: str, outputs: Iterable[Output]) -> bool:
    """Return whether files below ``base`` still have the sizes and tags that were noted."""
    noted = {
        f"{base}/{output.name}" if base else output.name: Stat(output.size, output.tag)
        for output in outputs
    }
    return stats_of(storage, noted) == noted

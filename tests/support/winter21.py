"""Winter21 in small: a gzipped tar that counts as too large for memory, and runs over it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.support.builds import no_aws

from imagenet_etl.archives import kinds
from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import IMAGENET_WINTER21
from imagenet_etl.leases import Owner
from imagenet_etl.samples import build_imagenet_full

FACTS = IMAGENET_WINTER21.archives[0]
SIZES = {"n00000007": 5, "n00000003": 2, "n00000009": 4}


def count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let gzip files of more than 100 bytes count as too large for memory."""
    monkeypatch.setattr(kinds, "MAX_PACKED_BYTES", 100)


def packed_sample(folder: Path, sizes: Any = SIZES) -> Path:
    """Write ``winter21_whole.tar.gz``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FACTS.name
    build_imagenet_full(path, None, sizes, layout="whole-gz")
    return path


def winter21_build(data: Path, source: Path | str, run: str = "run-1", **settings: Any) -> Build:
    """Return one run's view of winter21 in a data folder."""
    values = {"expect": "any", "workers": 1, "sources": {FACTS.name: str(source)}} | settings
    chosen = Settings(dataset="imagenet_winter21", data_dir=str(data), **values)
    return new_build(chosen, Owner(run), no_aws)


def tars_of(data: Path) -> list[Path]:
    """Return what lies among the archives under the name of an unpacked tar, notes apart."""
    found = (data / "archives").rglob("winter21_whole.tar")
    return sorted(found)


def unfinished_in(data: Path) -> list[Path]:
    """Return the partial files of interrupted unpacking."""
    return sorted((data / "archives").rglob("*.part"))


def sha256_of(content: bytes) -> str:
    """Return a SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()

"""Storages for tests: of every kind, or only a folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.moto_server import MotoServer
from tests.support.storages import KINDS, describe_new, opened

from imagenet_etl.storage import Storage


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the staging of buckets, here and in child processes, out of the machine's own folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(params=KINDS)
def description(request: pytest.FixtureRequest, tmp_path: Path, moto: MotoServer) -> str:
    """What a child process needs to open the same storage."""
    return describe_new(request.param, tmp_path, moto)


@pytest.fixture
def storage(description: str) -> Iterator[Storage]:
    with opened(description) as storage:
        yield storage


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Storage]:
    with opened(str(tmp_path / "data")) as storage:
        yield storage

"""What tests of downloads share: a server that misbehaves and a data folder to download to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.downloads import CONTENT, Run
from tests.support.fault_server import FaultServer


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(CONTENT) as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "data")

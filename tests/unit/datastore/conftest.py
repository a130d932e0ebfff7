"""A data folder and a bucket beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.moto_server import MotoServer
from tests.unit.datastore.helpers import URI, Site


@pytest.fixture
def cloud(tmp_path: Path, moto: MotoServer) -> Iterator[Site]:
    moto.bucket("backups")
    site = Site(tmp_path / "data", moto, URI)
    yield site
    site.storage.close_staging()

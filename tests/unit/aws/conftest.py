"""A published version and AWS on the loopback."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.build import Build


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("packed")
    build = build_of(folder, tiny_zip(folder), formats=("recordio", "imagefolder"), version="v1")
    run_stages(build)
    return build


def with_settings(build: Build, aws: Any, **settings: str) -> Build:
    return replace(build, settings=replace(build.settings, **settings), aws=aws)


def version_folder(build: Build) -> Path:
    return Path(build.settings.data_dir, build.published, "v1")

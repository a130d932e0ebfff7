"""Builds of the smallest dataset, for tests that need one without running its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.leases import Owner


def no_aws(service: str) -> NoReturn:
    """Fail: this test must not reach for the cloud."""
    raise AssertionError(f"asked for {service}")


def tiny_build(data_dir: Path, run: str = "run-1", **settings: Any) -> Build:
    """Return one run's view of Tiny ImageNet in a data folder."""
    chosen = Settings(dataset="tiny_imagenet", data_dir=str(data_dir), **settings)
    return new_build(chosen, Owner(run), no_aws)

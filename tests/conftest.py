"""Fixtures for all tests. Airflow is pointed at a throw-away home before anything imports it."""

import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from botocore.loaders import JSONFileLoader
from tests.support.moto_server import MotoServer, moto_server
from tests.support.recorded_calls import record_session_calls

ROOT = Path(__file__).resolve().parents[1]
_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
os.environ |= {
    "AIRFLOW_HOME": str(_HOME),
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME / 'airflow.db'}",
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    # Processes that tests start must find the library as this one does.
    "PYTHONPATH": str(ROOT / "include"),
}
# moto would make 1,300 images with their snapshots anew for each test that asks EC2 anything.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
# Each new session would parse the models of the services anew, a quarter of a second for EC2's.
_parsed = functools.cache(JSONFileLoader().load_file)
JSONFileLoader.load_file = lambda _self, path: _parsed(path)
# Nothing on the developer's machine may lend a test its AWS account.
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def calls_are_allowed() -> Iterator[None]:
    """No call that this project makes may lack an IAM policy that allows it."""
    with record_session_calls() as recorded:
        yield
    assert recorded.not_allowed() == []


@pytest.fixture(scope="module")
def moto_of_module() -> Iterator[MotoServer]:
    with moto_server() as server:
        yield server


@pytest.fixture
def moto(moto_of_module: MotoServer) -> Iterator[MotoServer]:
    """AWS on the loopback, empty for each test."""
    yield moto_of_module
    # moto keeps its state for the whole process, whatever server shows it.
    httpx.post(f"{moto_of_module.url}/moto-api/reset").raise_for_status()

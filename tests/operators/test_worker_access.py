"""What packing processes are told of the connection to AWS."""

import json
from typing import Any

import boto3
import pytest

from imagenet_etl.aws.worker_client import worker_client
from imagenet_operators.run_settings import AwsClients

CONFIG = {
    "proxies": {"https": "http://proxy:3128"},
    "connect_timeout": 60,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "s3": {"addressing_style": "path"},
}


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> AwsClients:
    extra = {"region_name": "eu-west-1", "endpoint_url": "https://s3.lab:9000", "verify": False}
    connection = {"conn_type": "aws", "login": "AKIDEXAMPLE", "password": "secret"}
    connection["extra"] = extra | {"config_kwargs": CONFIG}  # type: ignore[assignment]
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return AwsClients("aws_default")


def told_of(client: Any) -> dict[str, Any]:
    config = client.meta.config
    names = ("proxies", "connect_timeout", "read_timeout", "retries", "s3", "max_pool_connections")
    told = {name: getattr(config, name) for name in names}
    keys = client._request_signer._credentials.get_frozen_credentials()
    verify = client._endpoint.http_session._verify
    return told | {
        "keys": keys,
        "verify": verify,
        "at": (client.meta.endpoint_url, config.region_name),
    }


def test_a_worker_has_the_client_of_its_parent(clients: AwsClients) -> None:
    access = json.loads(json.dumps(clients.for_workers()))
    told = told_of(worker_client(access))
    assert told == told_of(clients("s3"))
    assert (told["verify"], told["proxies"], told["connect_timeout"]) == (
        False, CONFIG["proxies"], 60,
    )  # fmt: skip


def test_access_stays_the_same_and_makes_one_session(
    clients: AwsClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[boto3.Session] = []
    made = boto3.Session.__init__

    def counted(self: boto3.Session, *args: Any, **options: Any) -> None:
        sessions.append(self)
        made(self, *args, **options)

    monkeypatch.setattr(boto3.Session, "__init__", counted)
    assert clients.for_workers() == clients.for_workers()
    assert len(sessions) == 1

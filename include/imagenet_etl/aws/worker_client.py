"""How worker processes come by the S3 client that their parent has.

The parent tells them over their pipe, with each job, so that credentials which expire are followed,
and none stands in a command line, an environment or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagenet_etl.aws.client_config import client_config


def worker_access(
    credentials: Any,
    region: str | None,
    endpoint: str | None,
    s3: Mapping[str, Any] | None = None,
    verify: bool | str | None = None,
    **config: Any,
) -> dict[str, Any]:
    """Return, JSON-ready, what ``worker_client`` makes a client of.

    Args:
        credentials: botocore's frozen credentials; None for those that the environment gives.
        region: The region's name.
        endpoint: URL of a server other than Amazon's.
        s3: What botocore's ``Config`` says of S3, such as the style of addresses.
        verify: Whether certificates are checked, or the file of those to trust; None for the
            environment to say.
        config: What else ``Config`` is to be told, such as proxies and time limits.
    """
    given = {"region_name": region, "endpoint_url": endpoint}
    if credentials is not None:
        given |= {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.token,
        }
    client: dict[str, Any] = {name: value for name, value in given.items() if value}
    if verify is not None:  # False says something
        client["verify"] = verify
    return {"client": client, "config": config | ({"s3": dict(s3)} if s3 else {})}


def worker_client(access: Mapping[str, Any]) -> Any:
    """Return a boto3 client of S3, by what ``worker_access`` gave; by the environment if nothing.

    Raises:
        ValueError: The endpoint is no URL.
    """
    import boto3  # noqa: PLC0415 - slow to import
    from botocore.config import Config  # noqa: PLC0415

    config = client_config("s3").merge(Config(**access.get("config", {})))
    return boto3.client("s3", config=config, **access.get("client", {}))

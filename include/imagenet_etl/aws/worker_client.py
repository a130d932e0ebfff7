"""How worker processes come by the S3 client that their parent has.

The parent tells them over their pipe, with each job, so that credentials which expire are followed,
and none stands in a command line, an environment or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagenet_etl.aws.client_config import client_config


def worker_access(
    credentials: Any, region: str | None, endpoint: str | None, s3: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return, JSON-ready, what ``worker_client`` makes a client of.

    Args:
        credentials: botocore's frozen credentials; None for those that the environment gives.
        region: The region's name.
        endpoint: URL of a server other than Amazon's.
        s3: What botocore's ``Config`` says of S3, such as the style of addresses.
    """
    given = {"region_name": region, "endpoint_url": endpoint}
    if credentials is not None:
        given |= {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.token,
        }
    return {"client": {k: v for k, v in given.items() if v}, "s3": dict(s3 or {})}


def worker_client(access: Mapping[str, Any]) -> Any:
    """Return a boto3 client of S3, by what ``worker_access`` gave; by the environment if nothing.

    Raises:
        ValueError: The endpoint is no URL.
    """
    import boto3  # noqa: PLC0415 - slow to import
    from botocore.config import Config  # noqa: PLC0415

    config = client_config("s3")
    if access.get("s3"):
        config = config.merge(Config(s3=access["s3"]))
    return boto3.client("s3", config=config, **access.get("client", {}))

"""The AWS clients of the command line, with the credentials that the SDK finds."""

from __future__ import annotations

from typing import Any


def aws_client(service: str, region_name: str | None = None) -> Any:
    """Return a boto3 client of a service, in the environment's region unless one is given."""
    # Both take longer to import than many a stage to run.
    import boto3  # noqa: PLC0415

    from imagenet_etl.aws.client_config import client_config  # noqa: PLC0415

    return boto3.client(service, region_name=region_name, config=client_config(service))

"""Links from a task to what it made, in the EC2 console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

# Source: the service endpoints of each AWS partition.
_DOMAINS = {"aws": "aws.amazon.com", "aws-cn": "amazonaws.cn", "aws-us-gov": "amazonaws-us-gov.com"}


class _ConsoleLink(BaseOperatorLink):
    """The console's page of what the task made; Airflow asks for it once, when the task ends."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address; empty when the task has made nothing."""
        return getattr(operator, "console_url", "")


class EbsSnapshotLink(_ConsoleLink):
    """A snapshot's page."""

    name = "Snapshot"


class EbsVolumeLink(_ConsoleLink):
    """A volume's page."""

    name = "Volume"


def console_url(ec2: Any, identifier: str) -> str:
    """Return the address of a volume or snapshot in the region of an EC2 client."""
    domain = _DOMAINS.get(ec2.meta.partition, _DOMAINS["aws"])
    kind = (
        "SnapshotDetails:snapshotId" if identifier.startswith("snap-") else "VolumeDetails:volumeId"
    )
    return f"https://console.{domain}/ec2/home?region={ec2.meta.region_name}#{kind}={identifier}"

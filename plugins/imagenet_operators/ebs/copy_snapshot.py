"""Copy a snapshot to other regions, or under another key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from imagenet_operators.ebs.base import Begun, EbsOperator, as_list
from imagenet_operators.ebs.links import EbsSnapshotLink
from imagenet_operators.ebs.waits import SNAPSHOT, described_snapshot

if TYPE_CHECKING:
    from airflow.sdk import Context


class EbsCopySnapshotOperator(EbsOperator):
    """Copies a completed snapshot, with its tags, once to each region.

    Tags of AWS's own (``aws:...``) and those that tell one snapshot from all others stay behind.

    A copy bears the id of its source as a tag, by which it is found again: a second task that asks
    for the same copy gets the first one. ``region_name`` is the source's region.

    Args:
        snapshot_id: The source.
        regions: Where to, a list or a text with commas; the source's own region is allowed, for a
            copy under another key.
        encrypted: Whether the copies of a plain snapshot are encrypted.
        kms_key: Key, or alias in each region, that encrypts the copies; implies ``encrypted``.
            Empty for the encryption of the source.
        tags: More tags.

    Returns:
        The id of each copy, by region.
    """

    template_fields = (*EbsOperator.template_fields, "snapshot_id", "regions", "kms_key", "tags")
    operator_extra_links = (EbsSnapshotLink(),)

    def __init__(
        self,
        *,
        snapshot_id: str,
        regions: Sequence[str] | str,
        encrypted: bool = False,
        kms_key: str = "",
        tags: dict[str, str] | None = None,
        poll_interval: timedelta = timedelta(minutes=1),
        deadline: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ) -> None:
        super().__init__(poll_interval=poll_interval, deadline=deadline, **kwargs)
        self.snapshot_id = snapshot_id
        self.regions = regions
        self.encrypted = encrypted
        self.kms_key = kms_key
        self.tags = tags

    def begin(self, context: Context) -> Begun:  # noqa: ARG002
        """Find the copy of each region, or make it; all regions copy at once."""
        from imagenet_etl.aws.ebs.copies import copy_snapshot

        source_client = self.client()
        source = described_snapshot(source_client, self.snapshot_id)
        copies, waits = {}, []
        for region in dict.fromkeys(as_list(self.regions)):
            target = self.client(region_name=region)
            copy = copy_snapshot(
                source,
                source_client.meta.region_name,
                target,
                tags=_lasting_tags(source) | (self.tags or {}),
                kms_key=self.kms_key,
                encrypted=self.encrypted,
            )
            copies[region] = copy["SnapshotId"]
            waits.append(
                self.wait_for(SNAPSHOT, target, copy["StartTime"], snapshot_id=copies[region])
            )
            self.show(target, copies[region])
        return Begun(copies, waits)


def _lasting_tags(source: dict[str, Any]) -> dict[str, str]:
    from imagenet_etl.aws.ebs.tags import COPY_KEY, COPY_OF, DEPLOYMENT, TOKEN, tags_of

    own = {COPY_KEY, COPY_OF, DEPLOYMENT, TOKEN}
    # Nobody but AWS may set a tag that begins with aws:, such as those of AWS Backup.
    return {
        name: value
        for name, value in tags_of(source).items()
        if name not in own and not name.lower().startswith("aws:")
    }

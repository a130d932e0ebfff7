"""Let other accounts use a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from imagenet_operators.ebs.base import Begun, EbsOperator, as_list
from imagenet_operators.ebs.links import EbsSnapshotLink
from imagenet_operators.ebs.waits import described_snapshot

if TYPE_CHECKING:
    from airflow.sdk import Context


class EbsShareSnapshotOperator(EbsOperator):
    """Gives accounts the permission to make volumes of a snapshot; takes none away.

    Refused before any call that changes something: sharing with everybody, a snapshot under the
    account's default key (which no other account can use), and sharing that nobody has said is
    allowed.

    Args:
        snapshot_id: The snapshot, in ``region_name``.
        accounts: Account ids of twelve digits, a list or a text with commas.
        accept_licence: Whether somebody says that these accounts may have the data.

    Returns:
        The accounts that did not have the permission before.
    """

    template_fields = (*EbsOperator.template_fields, "snapshot_id", "accounts", "accept_licence")
    operator_extra_links = (EbsSnapshotLink(),)

    def __init__(
        self,
        *,
        snapshot_id: str,
        accounts: Sequence[str] | str,
        accept_licence: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id
        self.accounts = accounts
        self.accept_licence = accept_licence

    def begin(self, context: Context) -> Begun:  # noqa: ARG002
        """Share; nothing is under way afterwards."""
        from imagenet_etl.aws.ebs.sharing import share_snapshot

        ec2 = self.client()
        added = share_snapshot(
            ec2,
            self.client("kms"),
            described_snapshot(ec2, self.snapshot_id),
            as_list(self.accounts),
            # A template gives a text, unless the DAG renders templates as native objects.
            accept_licence=str(self.accept_licence) == "True",
        )
        self.show(ec2, self.snapshot_id)
        return Begun(added)

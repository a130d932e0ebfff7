"""Let other accounts make volumes of a snapshot; refuse what must not, or cannot, be shared.

Sources: Amazon EC2 API Reference, ModifySnapshotAttribute (500 accounts a call; a snapshot under
the account's default key cannot be shared, an encrypted one cannot be public); AWS KMS API
Reference, KeyMetadata (``KeyManager`` is ``AWS`` for a default key such as ``aws/ebs``).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from imagenet_etl.aws.ebs.once import found_soon
from imagenet_etl.aws.ebs.tags import UNUSABLE, tags_of
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import CloudUnavailable, SharingRefused

log = logging.getLogger(__name__)

_ACCOUNT = re.compile(r"[0-9]{12}")
_ACCOUNTS_A_CALL = 500


def check_sharing(
    ec2: Any,
    kms: Any,
    snapshot: dict[str, Any],
    accounts: Sequence[str],
    *,
    accept_licence: bool,
) -> None:
    """Return if a snapshot may be shared with these accounts; changes nothing.

    Args:
        ec2: The client of the snapshot's region.
        kms: The KMS client of that region; asked only about an encrypted snapshot.
        snapshot: The snapshot as EC2 describes it.
        accounts: Account ids of twelve digits.
        accept_licence: Whether somebody says that those accounts may have the data.

    Raises:
        SharingRefused: The licence is not accepted, an account is none, or is everybody; the
            snapshot is unusable, public, or under a key that others cannot be given.
        AccessDenied, CloudError, CloudUnavailable: The key or the permissions cannot be looked at.
    """
    identifier = snapshot["SnapshotId"]
    for account in accounts:
        if not _ACCOUNT.fullmatch(account):
            raise SharingRefused(
                f"snapshot {identifier} is not shared with {account!r}",
                expected="account ids of 12 digits; a licence as ImageNet's allows no public copy",
                remedy="Name each account that may have the data",
            )
    if not accept_licence:
        raise SharingRefused(
            f"snapshot {identifier} is not shared: nobody says that the licence allows it",
            expected="the licence box ticked, or accept_licence set",
            remedy="Read the dataset's terms; whoever gets the data must have agreed to them too",
        )
    if reason := tags_of(snapshot).get(UNUSABLE):
        raise SharingRefused(f"snapshot {identifier} is marked unusable", found=reason)
    if snapshot["Encrypted"]:
        _check_key(kms, identifier, snapshot.get("KmsKeyId", ""))
    if {"Group": "all"} in _permissions(ec2, identifier):
        raise SharingRefused(
            f"snapshot {identifier} is public",
            expected="a snapshot that only named accounts may use",
            remedy="Make it private in the EC2 console first",
        )


def share_snapshot(
    ec2: Any,
    kms: Any,
    snapshot: dict[str, Any],
    accounts: Sequence[str],
    *,
    accept_licence: bool,
) -> list[str]:
    """Let accounts use a snapshot; return those that could not before.

    The arguments are those of ``check_sharing``. Whoever gets an encrypted one needs the key, too:
    its policy has to allow the account ``kms:Decrypt``, ``kms:DescribeKey`` and
    ``kms:CreateGrant``, which is for the key's owner to do.

    Raises:
        SharingRefused: See ``check_sharing``; no call that changes anything was made.
        AccessDenied, CloudError: EC2 refuses.
        CloudUnavailable: EC2 fails, or does not show the new permission yet.
    """
    check_sharing(ec2, kms, snapshot, accounts, accept_licence=accept_licence)
    identifier = snapshot["SnapshotId"]
    wanted = sorted(set(accounts) - {snapshot.get("OwnerId")})
    before = shared_with(ec2, identifier)
    missing = [account for account in wanted if account not in before]
    for start in range(0, len(missing), _ACCOUNTS_A_CALL):
        with typed_aws_errors("ModifySnapshotAttribute", identifier):
            ec2.modify_snapshot_attribute(
                SnapshotId=identifier,
                Attribute="createVolumePermission",
                OperationType="add",
                UserIds=missing[start : start + _ACCOUNTS_A_CALL],
            )
    if missing and not found_soon(lambda: set(wanted) <= shared_with(ec2, identifier)):
        raise CloudUnavailable(
            f"snapshot {identifier} is not shared yet",
            expected=", ".join(wanted),
            found=", ".join(sorted(shared_with(ec2, identifier))) or "nobody",
            remedy="Run again",
        )
    log.info("shared %s with %s", identifier, ", ".join(missing) or "nobody new")
    return missing


def shared_with(ec2: Any, snapshot_id: str) -> set[str]:
    """Return the accounts that may make volumes of a snapshot, beside its owner.

    Raises:
        CloudNotFound, AccessDenied, CloudError, CloudUnavailable: It cannot be looked at.
    """
    return {item["UserId"] for item in _permissions(ec2, snapshot_id) if "UserId" in item}


def _permissions(ec2: Any, snapshot_id: str) -> list[dict[str, str]]:
    with typed_aws_errors("DescribeSnapshotAttribute", snapshot_id):
        reply = ec2.describe_snapshot_attribute(
            SnapshotId=snapshot_id, Attribute="createVolumePermission"
        )
    return list(reply["CreateVolumePermissions"])


def _check_key(kms: Any, snapshot_id: str, key: str) -> None:
    """Raise unless other accounts can be given the key."""
    if not key:
        raise SharingRefused(f"snapshot {snapshot_id} is encrypted, and EC2 does not tell its key")
    with typed_aws_errors("DescribeKey", key):
        found = kms.describe_key(KeyId=key)["KeyMetadata"]
    if found["KeyManager"] == "AWS":
        raise SharingRefused(
            f"snapshot {snapshot_id} is under the account's default key, which no other account "
            "can use",
            expected="a customer managed key",
            found=key,
            remedy="Set snapshot_kms_key to a key of your own, and name this region among the "
            "snapshot_regions: the copy under that key is shared instead",
        )
    if found["KeyState"] != "Enabled":
        raise SharingRefused(
            f"snapshot {snapshot_id} is under a key that nobody can use",
            expected="an enabled key",
            found=f"{key} {found['KeyState']}",
            remedy="Enable the key",
        )

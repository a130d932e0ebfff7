"""Make a volume once, and delete none but our own.

CreateVolume takes a token that makes it idempotent for a day; the same token stands in a tag, by
which the volume is found later. Source: Amazon EC2 API Reference, "Ensuring idempotency".
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.ebs.once import found_soon, never_repeated
from imagenet_etl.aws.ebs.tags import DEPLOYMENT, TOKEN, tag_filters, tag_specification, tags_of
from imagenet_etl.aws.ebs.volume_request import VolumeRequest
from imagenet_etl.aws.ebs.waits import DETACHED, described_volume
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import (
    CloudNotFound,
    CloudUnavailable,
    StillPending,
    VolumeFailed,
    WrongVolume,
)

__all__ = ["VolumeRequest", "create_volume", "delete_volume", "find_volume"]

log = logging.getLogger(__name__)

_MISMATCH, _IN_USE = "IdempotentParameterMismatch", "VolumeInUse"
_GONE = ("deleting", "deleted")
_TRIES = 3
"""A token leads to its volume for a day, also to one that was deleted meanwhile."""


def create_volume(ec2: Any, request: VolumeRequest, token: str) -> str:
    """Return the id of the volume that was made for this token; make it if there is none.

    It may be under way still, or have failed: see ``volume_progress``. It bears the tags of the
    request, ``TOKEN``, and, unless the request has one of its own, ``DEPLOYMENT``.

    Args:
        ec2: The client of the zone's region.
        request: What to make.
        token: Tells this volume from every other; at most 256 characters.

    Raises:
        VolumeFailed: The token stands for another request.
        CloudNotFound, AccessDenied, CloudError: The snapshot or key cannot be used.
        CloudUnavailable: EC2 fails; the next try finds the volume.
    """
    if there := find_volume(ec2, token):
        return str(there["VolumeId"])
    tags = {DEPLOYMENT: token} | dict(request.tags) | {TOKEN: token}
    for number in range(_TRIES):
        # The API takes 64 ASCII characters.
        key = hashlib.sha256(f"{token}:{number}".encode()).hexdigest()
        volume_id = _created(ec2, request, tags, key)
        if found_soon(lambda volume_id=volume_id: _seen(ec2, volume_id)):  # type: ignore[misc]
            log.info("made volume %s in %s", volume_id, request.availability_zone)
            return volume_id
        log.warning("volume %s, which this token stood for, is gone", volume_id)
    raise VolumeFailed(
        f"volume {volume_id} was made and cannot be seen",
        remedy="Look it up in the EC2 console; is something deleting volumes of this account?",
    )


def find_volume(ec2: Any, token: str) -> dict[str, Any] | None:
    """Return the volume that was made for a token, as EC2 describes it; None without one.

    Raises:
        AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    pages = ec2.get_paginator("describe_volumes").paginate(Filters=tag_filters({TOKEN: token}))
    with typed_aws_errors("DescribeVolumes", token):
        found = [item for page in pages for item in page["Volumes"]]
    alive = [
        item for item in found if item["State"] not in _GONE and tags_of(item).get(TOKEN) == token
    ]
    alive.sort(key=lambda item: (item["State"] != "error", item["CreateTime"]))
    return alive[-1] if alive else None


def delete_volume(ec2: Any, volume_id: str) -> None:
    """Delete a volume that this project made; a missing one is fine.

    Raises:
        WrongVolume: It does not bear our tag, so somebody else made it.
        VolumeFailed: It is attached.
        StillPending: It is being detached; ask again.
        AccessDenied, CloudError, CloudUnavailable: EC2 refuses or fails.
    """
    try:
        volume = described_volume(ec2, volume_id)
        if DEPLOYMENT not in tags_of(volume):
            raise WrongVolume(
                f"volume {volume_id} is not deleted, since it was not made by a deployment",
                expected=f"the tag {DEPLOYMENT}",
                found=", ".join(sorted(tags_of(volume))) or "no tag",
                remedy="Delete it by hand if it really may go",
            )
        _check_free(volume)
        with typed_aws_errors("DeleteVolume", volume_id, passing=(_IN_USE,)):
            ec2.delete_volume(VolumeId=volume_id)
    except CloudNotFound:
        log.info("volume %s is gone already", volume_id)
    except ClientError as error:
        raise StillPending(
            f"volume {volume_id} is in use still", found=_IN_USE, retry_after_s=5.0
        ) from error


def _check_free(volume: dict[str, Any]) -> None:
    for item in volume.get("Attachments", ()):
        if item["State"] == DETACHED:
            continue
        if item["State"] == "detaching":
            raise StillPending(f"volume {volume['VolumeId']} is detaching", retry_after_s=5.0)
        raise VolumeFailed(
            f"volume {volume['VolumeId']} is not deleted, since it is attached",
            found=f"{item['State']} to {item['InstanceId']}",
            remedy="Unmount and detach it first",
        )


def _created(ec2: Any, request: VolumeRequest, tags: dict[str, str], key: str) -> str:
    try:
        with typed_aws_errors(
            "CreateVolume", request.snapshot_id or request.availability_zone, passing=(_MISMATCH,)
        ):
            reply = never_repeated(ec2).create_volume(
                **request.parameters(),
                TagSpecifications=tag_specification("volume", tags),
                ClientToken=key,
            )
    except ClientError as error:
        raise VolumeFailed(
            f"token {tags[TOKEN]} stands for another volume request",
            found=_MISMATCH,
            remedy="Delete that volume, or use another token",
        ) from error
    except CloudUnavailable:
        # The call may have been heard: what it made bears the token.
        found = found_soon(lambda: find_volume(ec2, tags[TOKEN]))
        if found is None:
            raise
        reply = found
    return str(reply["VolumeId"])


def _seen(ec2: Any, volume_id: str) -> bool:
    try:
        described_volume(ec2, volume_id)
    except CloudNotFound:
        return False
    return True

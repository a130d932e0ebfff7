"""Make a volume once, and delete none but our own.

CreateVolume takes a token that makes it idempotent for a day; the same token stands in a tag, by
which the volume is found later. Source: Amazon EC2 API Reference, "Ensuring idempotency".
"""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.ebs.once import found_soon, never_repeated
from imagenet_etl.aws.ebs.tags import DEPLOYMENT, TOKEN, tag_filters, tag_specification, tags_of
from imagenet_etl.aws.ebs.volume_request import VolumeRequest
from imagenet_etl.aws.ebs.waits import DETACHED, described_volume
from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.errors import (
    CloudNotFound,
    CloudUnavailable,
    StillPending,
    VolumeFailed,
    WrongVolume,
)

__all__ = ["VolumeRequest", "create_volume", "delete_volume", "find_volume"]

log = logging.getLogger(__name__)

_MISMATCH, _IN_USE = "IdempotentParameterMismatch", ("VolumeInUse", "IncorrectState")
_GONE = ("deleting", "deleted")
_TOKENS = 100
_VISIBLE = timedelta(minutes=5)
"""After this long EC2 shows what it has made, whatever the difference of the clocks."""


def create_volume(ec2: Any, request: VolumeRequest, token: str, salt: str = "") -> str:
    """Return the id of the volume that bears this token; make it if there is none.

    It may be under way still, or have failed: see ``volume_progress``. It bears the tags of the
    request, ``TOKEN``, and, unless the request has one of its own, ``DEPLOYMENT``.

    Args:
        ec2: The client of the zone's region.
        request: What to make.
        token: Tells this volume from every other, and stands in its tag; at most 256 characters.
        salt: Who asks, such as a run: whoever asks anew after a deletion is not led by EC2's own
            token, for a day, to what is gone.

    Raises:
        VolumeFailed: The volume that bears the token is not what is asked for.
        StillPending: A volume was made that EC2 does not show; ask again.
        CloudNotFound, AccessDenied, CloudError: The snapshot or key cannot be used.
        CloudUnavailable: EC2 fails; the next try finds the volume.
    """
    if there := find_volume(ec2, token):
        _check_same(there, request, token)
        return str(there["VolumeId"])
    tags = {DEPLOYMENT: token} | dict(request.tags) | {TOKEN: token}
    asked = json.dumps([salt, request.parameters(), tags], sort_keys=True)
    for number in range(_TOKENS):
        # The API takes 64 ASCII characters.
        made = _created(
            ec2, request, tags, hashlib.sha256(f"{number} {asked}".encode()).hexdigest()
        )
        if made and _is_there(ec2, made):
            log.info("made volume %s in %s", made["VolumeId"], request.availability_zone)
            return str(made["VolumeId"])
        log.warning("token %d of %s is used up", number, token)
    raise VolumeFailed(
        f"volume {token} cannot be made",
        found=f"{_TOKENS} tokens of today that stand for deleted volumes",
        remedy="Look them up in the EC2 console; is something deleting volumes of this account?",
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
        StillPending: It is being made or detached; ask again.
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
        with typed_aws_errors("DeleteVolume", volume_id, passing=_IN_USE):
            ec2.delete_volume(VolumeId=volume_id)
    except CloudNotFound:
        log.info("volume %s is gone already", volume_id)
    except ClientError as error:
        raise StillPending(
            f"volume {volume_id} cannot be deleted yet",
            found=code_of(error),
            retry_after_s=5.0,
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


def _check_same(volume: dict[str, Any], request: VolumeRequest, token: str) -> None:
    """Return if a volume that was found is what is asked for; its speed may have been changed.

    Raises:
        VolumeFailed: It lies elsewhere, or holds something else.
    """
    given = request.parameters()
    wanted = {
        "AvailabilityZone": given["AvailabilityZone"],
        "SnapshotId": given.get("SnapshotId", ""),
        "Size": given.get("Size", volume["Size"]),
    }
    found = {name: volume.get(name) or "" for name in wanted}
    if found != wanted:
        raise VolumeFailed(
            f"volume {volume['VolumeId']} bears the token {token}, but is another",
            expected=_told(wanted),
            found=_told(found),
            remedy="Delete that volume if nobody needs it, or use another name",
        )


def _told(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value or 'none'}" for name, value in values.items())


def _created(
    ec2: Any, request: VolumeRequest, tags: dict[str, str], key: str
) -> dict[str, Any] | None:
    """Return EC2's answer; None when the token stands for another request."""
    try:
        with typed_aws_errors(
            "CreateVolume", request.snapshot_id or request.availability_zone, passing=(_MISMATCH,)
        ):
            return dict(
                never_repeated(ec2).create_volume(
                    **request.parameters(),
                    TagSpecifications=tag_specification("volume", tags),
                    ClientToken=key,
                )
            )
    except ClientError:  # the mismatch; others are typed
        return None
    except CloudUnavailable:
        # The call may have been heard: what it made bears the token.
        found = found_soon(lambda: find_volume(ec2, tags[TOKEN]))
        if found is None:
            raise
        return found


def _is_there(ec2: Any, made: dict[str, Any]) -> bool:
    """Return whether what CreateVolume tells of exists still: a token may lead to a dead volume.

    Raises:
        StillPending: It cannot be seen, but may be too young for that.
    """
    volume_id = made["VolumeId"]
    young = datetime.now(UTC) - made["CreateTime"] < _VISIBLE
    state = found_soon(lambda: _state(ec2, volume_id)) if young else _state(ec2, volume_id)
    if not state and young:
        raise StillPending(f"volume {volume_id} was made, and EC2 does not show it yet")
    return bool(state) and state not in _GONE


def _state(ec2: Any, volume_id: str) -> str:
    """Return a volume's state, even while it is deleted; nothing when there is none to be seen."""
    try:
        with typed_aws_errors("DescribeVolumes", volume_id):
            reply = ec2.describe_volumes(VolumeIds=[volume_id])
    except CloudNotFound:
        return ""
    return "".join(item["State"] for item in reply["Volumes"])

"""The snapshots of a dataset's versions: this account's by their tags, another's by description.

Whoever shares a snapshot does not share its tags. Its description anybody can write, so the account
that is believed has to be named. Source: Amazon EBS User Guide, "Share an Amazon EBS snapshot".
"""

from __future__ import annotations

from typing import Any

from imagenet_etl.aws.ebs.snapshots import find_snapshots
from imagenet_etl.aws.ebs.tags import DATASET, PREFIX, VERSION, DatasetTags, tag_specification
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import CloudNotFound


def published_snapshots(
    ec2: Any, dataset: str, version: str = "", owner: str = ""
) -> list[dict[str, Any]]:
    """Return the snapshots of a dataset, of one version or of any, the newest last.

    They bear the tags that ``DatasetTags`` reads, wherever those were told.

    Args:
        ec2: The client of the region to look in.
        dataset: The dataset's name.
        version: A version; empty for any.
        owner: The account, of twelve digits, that shares them with this one; empty for our own.

    Raises:
        AccessDenied, CloudError: The credentials do not allow it.
        CloudUnavailable: EC2 fails beyond the client's retries.
    """
    if not owner:
        return find_snapshots(ec2, {DATASET: dataset} | ({VERSION: version} if version else {}))
    described = f"{PREFIX} {dataset}/{version or '*'} *"
    pages = ec2.get_paginator("describe_snapshots").paginate(
        OwnerIds=[owner], Filters=[{"Name": "description", "Values": [described]}]
    )
    with typed_aws_errors("DescribeSnapshots", f"snapshots of {owner}"):
        seen = [item for page in pages for item in page["Snapshots"]]
    found = []
    for item in seen:
        told = DatasetTags.told_by(item)
        if told is None or item["OwnerId"] != owner or told.dataset != dataset:
            continue
        if not version or told.version == version:
            found.append(item | {"Tags": tag_specification("snapshot", told.to_dict())[0]["Tags"]})
    return sorted(found, key=lambda item: (item["StartTime"], item["SnapshotId"]))


def newest_snapshot(ec2: Any, dataset: str, version: str = "", owner: str = "") -> dict[str, Any]:
    """Return the newest completed snapshot of a dataset; the arguments as above.

    The newest is the one begun last, so where only copies are, name the version: that of an older
    one may have been copied later.

    Raises:
        CloudNotFound: There is none in the client's region; it tells which versions have one.
    """
    found = published_snapshots(ec2, dataset, version, owner)
    completed = [item for item in found if item["State"] == "completed"]
    if completed:
        return completed[-1]
    others = ", ".join(f"{item['SnapshotId']} {item['State']}" for item in found) or "nothing"
    there = published_snapshots(ec2, dataset, owner=owner)
    versions = sorted({DatasetTags.of(item).version for item in there})
    raise CloudNotFound(
        f"no completed snapshot of {dataset}, {f'version {version}' if version else 'any version'},"
        f" in {ec2.meta.region_name}",
        expected=f"one that account {owner} shares, described by this package"
        if owner
        else f"the tags {DATASET} and {VERSION}",
        found=f"{others}; versions with a snapshot: {', '.join(versions) or 'none'}",
        remedy="Take or copy one first; for one that another account shares, name that account",
    )

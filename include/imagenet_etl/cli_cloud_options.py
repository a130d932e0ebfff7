"""The command-line options of the cloud stages."""

from __future__ import annotations

import argparse

from imagenet_etl.config import BACKUPS, BOUNDS, STORAGE_CLASSES
from imagenet_etl.errors import ConfigError


def add_cloud(parser: argparse.ArgumentParser) -> None:
    """Add what the backup, the snapshot and its copies take."""
    _add_backup(parser.add_argument_group("backup"))
    _add_snapshot(parser.add_argument_group("snapshot"))


def _add_backup(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--s3-uri",
        default="",
        metavar="URI",
        help="s3://bucket/prefix to back up to, and to fetch archives from before the publisher",
    )
    add(
        "--back-up",
        action="append",
        choices=BACKUPS,
        help="what to back up; may be given several times (default: dataset, without archives)",
    )
    add(
        "--no-from-backup",
        dest="from_backup",
        action="store_false",
        help="fetch archives from the publisher, though the backup may hold them",
    )
    add(
        "--s3-storage-class",
        choices=STORAGE_CLASSES,
        default="STANDARD",
        help="of what is backed up (default: %(default)s)",
    )
    add("--s3-kms-key", default="", metavar="KEY", help="KMS key (default: the bucket's)")
    add(
        "--s3-tag",
        action="append",
        default=[],
        dest="s3_tags",
        metavar="NAME=VALUE",
        help="tag of the objects; may be given several times",
    )
    _add_number(group, "s3-mib-per-s", 0, "most MiB a second to send; 0 for no limit")
    _add_number(group, "s3-connections", 10, "requests under way at once")


def _add_snapshot(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--ebs-volume-id", default="", metavar="ID", help="the volume under the data folder")
    add("--freeze", action="store_true", help="freeze its file system meanwhile; needs root")
    add(
        "--snapshot-region",
        action="append",
        default=[],
        dest="snapshot_regions",
        metavar="REGION",
        help="copy the snapshot there; may be given several times",
    )
    add("--snapshot-kms-key", default="", metavar="KEY", help="KMS key that encrypts the copies")
    add(
        "--share-with",
        action="append",
        default=[],
        metavar="ACCOUNT",
        help="account id that may use the snapshot; may be given several times",
    )
    add(
        "--accept-licence",
        action="store_true",
        help="say that those accounts may have the data under its terms",
    )


def _add_number(group: argparse._ArgumentGroup, name: str, default: int, text: str) -> None:
    low, high = BOUNDS[name.replace("-", "_")]
    group.add_argument(
        f"--{name}",
        type=int,
        default=default,
        metavar="N",
        help=f"{text}; {low} to {high} (default: {default})",
    )


def tags_of(items: list[str]) -> dict[str, str]:
    """Return the tags that a command line gives.

    Raises:
        ConfigError: One is not NAME=VALUE.
    """
    tags = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not (name and equals):
            raise ConfigError(f"--s3-tag {item!r}", expected="NAME=VALUE")
        tags[name] = value
    return tags

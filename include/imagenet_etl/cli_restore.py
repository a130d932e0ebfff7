"""The command ``restore``: a version, or archives, back from the S3 backup."""

from __future__ import annotations

import argparse
import logging
import sys
import uuid
from pathlib import Path
from typing import Any

from imagenet_etl.build import Build, new_build
from imagenet_etl.cli_aws import aws_client
from imagenet_etl.config import BOUNDS, Settings
from imagenet_etl.datasets import DATASETS
from imagenet_etl.errors import ConfigError
from imagenet_etl.leases import Owner

log = logging.getLogger(__name__)


def add_restore(commands: Any) -> None:
    """Add the command to the parser's commands."""
    summary = "bring a version back from the S3 backup; prints its folder"
    restore = commands.add_parser("restore", help=summary, description=summary)
    add = restore.add_argument
    add(
        "uri",
        metavar="URI",
        help="the backup, s3://bucket/prefix; dataset and version may follow: /DATASET/VERSION",
    )
    add("--data-dir", required=True, metavar="DIR", help="holds archives/, work/ and datasets/")
    add("--dataset", default="", metavar="NAME", help="the dataset, where the URI does not say it")
    add("--version", default="", metavar="NAME", help="the version (default: the latest)")
    add(
        "--archives",
        action="store_true",
        help="bring the newest of each archive instead, to where a run looks for it",
    )
    add("--dry-run", action="store_true", help="tell what would be brought, and write nothing")
    low, high = BOUNDS["s3_connections"]
    add(
        "--connections",
        type=int,
        default=10,
        metavar="N",
        help=f"objects, or ranges of one, that are fetched at once; {low} to {high} (default: 10)",
    )
    restore.set_defaults(run=_restore)


def _restore(args: argparse.Namespace) -> None:
    # boto3 takes longer to import than many a stage to run.
    from imagenet_etl.aws.s3_restore_find import (  # noqa: PLC0415
        datasets_below,
        newest_version,
        parse_target,
    )

    target = parse_target(args.uri, DATASETS, args.dataset, args.version)
    dataset = target.dataset
    if not dataset:
        # Which one hardly matters to a client that only lists.
        client = _build(args, min(DATASETS), target.s3_uri, "").client("s3")
        found = datasets_below(client, target.s3_uri, DATASETS)
        if len(found) != 1:
            raise ConfigError(
                f"{args.uri} does not say which dataset",
                expected="one of them below it, or --dataset",
                found=", ".join(found) or "none",
            )
        dataset = found[0]
    build = _build(args, dataset, target.s3_uri, target.version)
    if args.archives:
        _archives(build, dry_run=args.dry_run)
        return
    version = target.version
    if not version:
        from imagenet_etl.aws.s3_layout import backup_place  # noqa: PLC0415

        place = backup_place(target.s3_uri, dataset)
        version = newest_version(build.client("s3"), place, dataset)
        build = _build(args, dataset, target.s3_uri, version)
    _version(build, version, dry_run=args.dry_run)


def _build(args: argparse.Namespace, dataset: str, s3_uri: str, version: str) -> Build:
    if "://" in args.data_dir:
        raise ConfigError(
            f"a backup cannot be restored to {args.data_dir}",
            expected="a folder",
            remedy="aws s3 cp --recursive copies a version between buckets",
        )
    settings = Settings(
        dataset=dataset,
        data_dir=str(Path(args.data_dir).expanduser().absolute()),
        version=version,
        s3_uri=s3_uri,
        s3_connections=args.connections,
        connections=args.connections,
    )
    unique = uuid.uuid4().hex[:12]
    owner = Owner(run=f"restore-{unique}", claim=unique)
    return new_build(settings, owner, aws_client)


def _version(build: Build, version: str, *, dry_run: bool) -> None:
    from imagenet_etl.aws.s3_restore import (  # noqa: PLC0415 - slow to import
        is_restored,
        read_backed_up,
        restore_version,
    )

    backed_up = read_backed_up(build, version)
    if dry_run:
        manifest = backed_up.manifest
        files, size = len(manifest.files) + 1, sum(file.size for file in manifest.files)
        loose = "".join(f", {manifest.counts['packed']:,} files of {name}"
                        for name in backed_up.loose)  # fmt: skip
        there = "; all of it is there" if is_restored(build, backed_up) else ""
        _tell(f"{backed_up.uri}: {files:,} files, {size:,} bytes{loose}{there}")
        return
    with build.locked() as locked:
        done = restore_version(locked, backed_up, build.settings.s3_connections)
    if done.was_there:
        log.info("restore: %s is there; verify reads its digests", backed_up.uri)
    else:
        log.info(
            "restore: %s files, %s bytes fetched, %s kept from an earlier restore",
            f"{done.files:,}",
            f"{done.fetched_bytes:,}",
            f"{done.kept_bytes:,}",
        )
    _tell(done.path)


def _archives(build: Build, *, dry_run: bool) -> None:
    from imagenet_etl.aws.s3_layout import backup_place  # noqa: PLC0415 - slow to import
    from imagenet_etl.aws.s3_restore_archives import newest_mark, restore_archive  # noqa: PLC0415
    from imagenet_etl.aws.s3_restore_find import archives_held  # noqa: PLC0415

    place = backup_place(build.settings.s3_uri, build.facts.name)
    names = archives_held(build.client("s3"), place)
    if not names:
        raise ConfigError(f"{place.uri(place.archives)} holds no archive with its commit mark")
    for name in names:
        mark = newest_mark(build, name)
        if dry_run:
            _tell(place.uri(place.archive(name, mark.sha256)))
            continue
        note, count = restore_archive(build, mark)
        log.info("restore %s: %s bytes fetched", name, f"{count:,}")
        _tell(str(build.storage.local_path(note.archive.location)))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")

"""The command ``backup``: the stage ``back_up_to_s3``, or only what it would send."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any

from imagenet_etl.aws.s3_backup import why_no_backup
from imagenet_etl.aws.s3_plan import plan_backup
from imagenet_etl.build import Build
from imagenet_etl.cli_options import add_settings
from imagenet_etl.errors import ConfigError
from imagenet_etl.pipeline import receipts_up_to
from imagenet_etl.stage import Place

log = logging.getLogger(__name__)


def add_backup(commands: Any, run: Callable[[argparse.Namespace], None]) -> None:
    """Add the command to the parser's commands.

    Args:
        commands: The parser's commands.
        run: Backs up as the parsed arguments ask.
    """
    summary = "back a verified version, its archives or both up to S3"
    backup = commands.add_parser("backup", help=summary, description=summary)
    add_settings(backup)
    backup.add_argument(
        "--dry-run",
        action="store_true",
        help="only tell what would be sent, and what is there already; nothing is written",
    )
    backup.set_defaults(run=run, stage="back_up_to_s3")


def backup_lines(build: Build) -> list[str]:
    """Return for people what a backup would send; the bucket is read, and nothing is written.

    Raises:
        ConfigError: No backup is asked for.
        StageNotDone: The version is not verified yet.
        BackupConflict: A key holds something else.
        CloudError, CloudUnavailable: The bucket cannot be read.
    """
    if reason := why_no_backup(build.settings):
        raise ConfigError(reason, remedy="Give --s3-uri s3://bucket/prefix")
    return plan_backup(Place(build, receipts_up_to(build, "verify"), "", "")).lines()

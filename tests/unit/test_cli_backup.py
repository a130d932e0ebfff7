"""The command that backs up, and tells what it would send."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.moto_server import MotoServer

from imagenet_etl.cli_backup import add_backup, backup_lines
from imagenet_etl.errors import ConfigError, StageNotDone


def test_dry_run_tells_what_would_be_sent_and_writes_nothing(
    tmp_path: Path, moto: MotoServer
) -> None:
    moto.bucket("backups")
    build = build_of(tmp_path, tiny_zip(tmp_path), version="v1", s3_uri="s3://backups")
    build = replace(build, aws=moto.client)
    with pytest.raises(StageNotDone):
        backup_lines(build)
    run_stages(build)
    lines = backup_lines(build)
    assert any(line.endswith("s3://backups/tiny_imagenet/v1/manifest.json") for line in lines)
    assert lines[-1].endswith("bytes")
    assert "Contents" not in moto.client("s3").list_objects_v2(Bucket="backups")


def test_dry_run_without_a_place_says_so(tmp_path: Path) -> None:
    build = build_of(tmp_path, tiny_zip(tmp_path))
    with pytest.raises(ConfigError, match="--s3-uri"):
        backup_lines(build)


def test_command_takes_all_settings_and_dry_run() -> None:
    parser = argparse.ArgumentParser()
    ran: list[argparse.Namespace] = []
    add_backup(parser.add_subparsers(), ran.append)
    args = parser.parse_args(["backup", "tiny_imagenet", "--s3-uri", "s3://b/p", "--dry-run"])
    args.run(args)
    assert ran == [args]
    assert (args.dry_run, args.stage, args.s3_uri) == (True, "back_up_to_s3", "s3://b/p")

"""The command line: every stage, without Airflow.

Exit codes: 0 done, 1 terminal error, 2 usage, 3 transient error (run it again).
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from imagenet_etl.build import Build, made_client, new_build
from imagenet_etl.cli_aws import aws_client
from imagenet_etl.cli_backup import add_backup, backup_lines
from imagenet_etl.cli_datastore import add_datastore
from imagenet_etl.cli_options import add_settings, settings_of
from imagenet_etl.cli_restore import add_restore
from imagenet_etl.cli_sample import add_sample
from imagenet_etl.cli_share import add_share
from imagenet_etl.cli_user_data import add_user_data
from imagenet_etl.datasets import DATASETS
from imagenet_etl.download.login import login_from_environment
from imagenet_etl.errors import (
    Cancelled,
    ConfigError,
    EtlError,
    NothingToDo,
    StillPending,
    TransientError,
)
from imagenet_etl.leases import Owner
from imagenet_etl.lists import write_lists
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.mapped import run_pack_group
from imagenet_etl.packing import WORKER
from imagenet_etl.pipeline import STAGES, find_receipt, receipts_up_to, run_stage
from imagenet_etl.pool import workers_ready
from imagenet_etl.preflight.report import preflight_lines
from imagenet_etl.publishing import publish_version
from imagenet_etl.selection import parse_group
from imagenet_etl.stage import counts_in_words
from imagenet_etl.storage.opening import open_storage
from imagenet_etl.verify import verify_version

_POLL_S = 15.0
DONE, TERMINAL, USAGE, TRANSIENT = range(4)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # It tells with every client where it has found endpoint and credentials.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    args = _parser().parse_args(argv)
    try:
        with _cancelled_by_sigterm():
            args.run(args)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except EtlError as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return TRANSIENT if isinstance(error, TransientError) else TERMINAL
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return TERMINAL
    except (KeyboardInterrupt, Cancelled):
        print("stopped; finished work is kept for the next run", file=sys.stderr)
        return TRANSIENT
    return DONE


@contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into `Cancelled`; who calls `main` gets the handler back that was there."""
    previous = signal.signal(signal.SIGTERM, _cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


def _cancel(*_: object) -> NoReturn:
    raise Cancelled("SIGTERM")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m imagenet_etl",
        description="Take an ImageNet dataset from its archive to verified training records.",
        epilog="Exit codes: 0 done, 1 terminal error, 2 usage, 3 transient error (run it again).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prepare = commands.add_parser(
        "prepare", help="run all local stages and the cloud ones asked for"
    )
    add_settings(prepare)
    prepare.set_defaults(run=_prepare)
    for name, stage in STAGES.items():
        summary = _summary(stage.run.__doc__ or "")
        if name == "verify":
            where = "in DIR or below an s3:// URI"
            summary = f"check a published version {where}; with a dataset's name, run the stage"
        command = commands.add_parser(name, help=summary, description=summary)
        add_settings(command, "DATASET_OR_DIR" if name == "verify" else "DATASET")
        if name == "pack":
            command.add_argument(
                "--group",
                default="",
                metavar="I/N",
                help="pack only every N-th segment from the I-th on; pack alone then completes",
            )
        command.set_defaults(run=_one_stage, stage=name)
    register = commands.add_parser("publish", help="enter the verified version into the registry")
    add_settings(register)
    register.set_defaults(run=_publish_command)
    summary = "tell the room and the hours that a dataset will take; nothing is written"
    preflight = commands.add_parser("preflight", help=summary, description=summary)
    add_settings(preflight)
    preflight.set_defaults(run=_preflight)
    summary = "write what plan_shards has planned as im2rec's list files"
    lists = commands.add_parser("lists", help=summary, description=summary)
    add_settings(lists)
    lists.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    lists.set_defaults(run=_lists)
    add_backup(commands, _backup)
    add_restore(commands)
    add_datastore(commands)
    add_user_data(commands)
    add_share(commands)
    add_sample(commands)
    return parser


def _summary(docstring: str) -> str:
    """Return a docstring's first line as argparse likes it."""
    line = docstring.splitlines()[0].replace("``", "").rstrip(".")
    return line[:1].lower() + line[1:]


def _build(args: argparse.Namespace) -> Build:
    # Without a token two commands at once are two runs; with one they are two claims of a run.
    unique = uuid.uuid4().hex[:12]
    owner = Owner(run=f"cli-{args.run_token or unique}", claim=unique)
    return new_build(
        settings_of(args), owner, aws_client, lambda: login_from_environment(os.environ)
    )


def _prepare(args: argparse.Namespace) -> None:
    with _build(args).locked(will_retry=bool(args.run_token)) as build:
        will_pack = find_receipt(build, "pack") is None
        with workers_ready(WORKER, build.settings.worker_count() if will_pack else 0):
            for name in build.facts.stages:
                _run_and_tell(build, name)
        for name, stage in STAGES.items():
            if stage.after and not stage.not_asked(build.settings):
                _run_and_tell(build, name)
        _publish(build)


def _publish(build: Build) -> None:
    """Enter the version into the registry and print where it is."""
    publish_version(build)
    print(receipts_up_to(build, "verify")["verify"].facts["path"])


def _publish_command(args: argparse.Namespace) -> None:
    with _build(args).locked() as build:
        _publish(build)


def _preflight(args: argparse.Namespace) -> None:
    print("\n".join(preflight_lines(_build(args))))


def _backup(args: argparse.Namespace) -> None:
    if args.dry_run:
        print("\n".join(backup_lines(_build(args))))
    else:
        _one_stage(args)


def _lists(args: argparse.Namespace) -> None:
    files = write_lists(_build(args), args.out)
    logging.getLogger("imagenet_etl").info("%s has %s list files", args.out, f"{files:,}")


def _one_stage(args: argparse.Namespace) -> None:
    if args.stage == "verify" and _is_version(args.dataset):
        place = args.dataset if "://" in args.dataset else str(Path(args.dataset).expanduser())
        storage = open_storage(place, lambda: made_client(aws_client, "s3"))
        counts = verify_version(storage)
        storage.close_staging()
        print(f"{place}: all good, {counts_in_words(counts)}")
        return
    # Other commands of the run may be at work, or follow: only prepare and publish end it.
    is_part = bool(args.run_token)
    with _build(args).locked(hand_on=is_part, will_retry=is_part) as build:
        if args.stage == "pack" and args.group:
            _pack_group(build, args.group)
        else:
            _run_and_tell(build, args.stage)


def _is_version(place: str) -> bool:
    return place not in DATASETS or Path(place, MANIFEST).exists()


def _pack_group(build: Build, text: str) -> None:
    counts = run_pack_group(build, parse_group(text))
    logging.getLogger("imagenet_etl").info("pack %s: %s", text, counts_in_words(counts))


def _run_and_tell(build: Build, name: str) -> None:
    log = logging.getLogger("imagenet_etl")
    while True:
        try:
            outcome = run_stage(build, name)
            break
        except NothingToDo as reason:
            log.info("%-16s skipped: %s", name, reason)
            return
        except StillPending as pending:
            log.info("%s; waiting", pending)
            time.sleep(_POLL_S)
    if outcome.idle:
        log.info("%-16s skipped: %s", name, outcome.idle)
        return
    if "text" in outcome.receipt.facts:
        log.info("\n%s", outcome.receipt.facts["text"])
        return
    state = "nothing to do" if outcome.reused else f"done in {outcome.receipt.seconds:.1f} s"
    log.info("%-16s %s: %s", name, state, outcome.told())

"""The command line: every stage, without Airflow.

Exit codes: 0 done, 1 terminal error, 2 usage, 3 transient error (run it again).
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import boto3

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import BOUNDS, EXPECTATIONS, FORMATS, Settings
from imagenet_etl.datasets import DATASETS
from imagenet_etl.errors import (
    Cancelled,
    ConfigError,
    EtlError,
    NothingToDo,
    StillPending,
    TransientError,
)
from imagenet_etl.images.geometry import MODES
from imagenet_etl.leases import Owner
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.pipeline import (
    STAGES,
    counts_in_words,
    find_receipt,
    receipts_up_to,
    run_stage,
)
from imagenet_etl.registry import publish
from imagenet_etl.samples import SAMPLES, SampleSize
from imagenet_etl.verify import verify_folder

_POLL_S = 15.0
DONE, TERMINAL, USAGE, TRANSIENT = range(4)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _cancel)
    args = _parser().parse_args(argv)
    try:
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
    _add_settings(prepare)
    prepare.set_defaults(run=_prepare)
    for name, stage in STAGES.items():
        summary = _summary(stage.run.__doc__ or "")
        if name == "verify":
            summary = "check a published version in DIR; with a dataset's name, run the stage"
        command = commands.add_parser(name, help=summary, description=summary)
        _add_settings(command, "DATASET_OR_DIR" if name == "verify" else "DATASET")
        command.set_defaults(run=_one_stage, stage=name)
    register = commands.add_parser("publish", help="enter the verified version into the registry")
    _add_settings(register)
    register.set_defaults(run=_publish_command)
    _add_sample(commands)
    return parser


def _summary(docstring: str) -> str:
    """Return a docstring's first line as argparse likes it."""
    line = docstring.splitlines()[0].replace("``", "").rstrip(".")
    return line[:1].lower() + line[1:]


def _add_settings(parser: argparse.ArgumentParser, metavar: str = "DATASET") -> None:
    parser.add_argument("dataset", metavar=metavar, help=" or ".join(DATASETS))
    add = parser.add_argument
    add("--data-dir", metavar="DIR", help="holds archives/, work/ and datasets/")
    add(
        "--source",
        action="append",
        default=[],
        metavar="ARCHIVE=PATH_OR_URL",
        help="where an archive is, in place of its publisher's URL; may end in #sha256=HEX",
    )
    add(
        "--format",
        action="append",
        choices=FORMATS,
        dest="formats",
        help="output format; may be given several times (default: recordio)",
    )
    add("--resize", default="none", metavar="MODE:SIZE", help=f"{', '.join(MODES)} (default: none)")
    add("--upscale", action="store_true", help="enlarge smaller images too")
    _add_number(parser, "quality", 90, "JPEG quality of re-encoded images")
    _add_number(parser, "shards", 0, "training shards; 0 for one each 4,096 records")
    _add_number(parser, "val-shards", 1, "validation shards")
    _add_number(parser, "workers", 0, "packing processes; 0 for one a core")
    _add_number(parser, "seed", 100, "seed of the shuffle")
    add(
        "--max-bad",
        type=int,
        metavar="N",
        help="images that may be quarantined (default: 0.01 %%, at least 1)",
    )
    add("--version", default="", metavar="NAME", help="name of the version (default: a digest)")
    add(
        "--expect",
        choices=EXPECTATIONS,
        default="published",
        help="demand the published counts and digests, or take any (for samples)",
    )
    add("--s3-uri", default="", metavar="URI", help="where back_up_to_s3 puts the version")
    add("--ebs-volume-id", default="", metavar="ID", help="what snapshot_ebs takes a snapshot of")


def _add_number(parser: argparse.ArgumentParser, name: str, default: int, text: str) -> None:
    low, high = BOUNDS[name.replace("-", "_")]
    bounds = f"{low} to {high}" if high < 2**31 else f"{low} or more"
    parser.add_argument(
        f"--{name}", type=int, default=default, metavar="N",
        help=f"{text}; {bounds} (default: {default})",
    )  # fmt: skip


def _add_sample(commands: Any) -> None:
    sample = commands.add_parser(
        "sample", help="build a miniature archive in a dataset's official layout"
    )
    size = SampleSize()
    add = sample.add_argument
    add("dataset", choices=sorted(SAMPLES), metavar="DATASET", help=" or ".join(SAMPLES))
    add("--out", type=Path, required=True, metavar="FILE", help="the archive to write")
    add("--images", type=Path, metavar="DIR_OR_TAR", help="images to use, generated ones if absent")
    add("--classes", type=int, default=size.classes, metavar="N", help="(default: %(default)s)")
    add(
        "--train",
        type=int,
        default=size.train,
        metavar="N",
        help="training images a class (default: %(default)s)",
    )
    add(
        "--val",
        type=int,
        default=size.val,
        metavar="N",
        help="validation images a class (default: %(default)s)",
    )
    add(
        "--test",
        type=int,
        default=size.test,
        metavar="N",
        help="unlabelled images in all (default: %(default)s)",
    )
    add("--stored", action="store_true", help="store the members instead of deflating them")
    sample.set_defaults(run=_sample)


def _sample(args: argparse.Namespace) -> None:
    size = SampleSize(args.classes, args.train, args.val, args.test)
    SAMPLES[args.dataset](args.out, args.images, size, stored=args.stored)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:,.1f} MB")


def _settings(args: argparse.Namespace) -> Settings:
    data_dir = args.data_dir or ""
    if not data_dir:
        raise ConfigError(
            "--data-dir is missing", remedy="Give the folder that is to hold the data"
        )
    sources: dict[str, str] = {}
    for item in args.source:
        name, equals, place = item.partition("=")
        if not equals:
            raise ConfigError(f"--source {item!r}", expected="ARCHIVE=PATH_OR_URL")
        sources[name] = place if "://" in place else str(Path(place).expanduser().absolute())
    return Settings(
        dataset=args.dataset,
        data_dir=data_dir if "://" in data_dir else str(Path(data_dir).expanduser().absolute()),
        version=args.version,
        sources=sources,
        formats=tuple(dict.fromkeys(args.formats or ["recordio"])),
        resize=args.resize,
        upscale=args.upscale,
        quality=args.quality,
        shards=args.shards,
        val_shards=args.val_shards,
        seed=args.seed,
        max_bad=args.max_bad,
        expect=args.expect,
        workers=args.workers,
        s3_uri=args.s3_uri,
        ebs_volume_id=args.ebs_volume_id,
    )


def _build(args: argparse.Namespace) -> Build:
    # One token a call: two commands at once are two runs.
    owner = Owner(run=f"cli-{uuid.uuid4().hex[:12]}")
    return new_build(_settings(args), owner, boto3.client)


def _prepare(args: argparse.Namespace) -> None:
    with _build(args).locked() as build:
        for name in build.facts.stages:
            _run_and_tell(build, name)
        for name, wanted in (
            ("back_up_to_s3", args.s3_uri),
            ("snapshot_ebs", args.ebs_volume_id),
        ):
            if wanted:
                _run_and_tell(build, name)
        _publish(build)


def _publish(build: Build) -> None:
    """Enter the version into the registry and print where it is."""
    verified = receipts_up_to(build, "verify")["verify"]
    publish(
        build,
        verified,
        backup=find_receipt(build, "back_up_to_s3"),
        snapshot=find_receipt(build, "snapshot_ebs"),
    )
    print(verified.facts["path"])


def _publish_command(args: argparse.Namespace) -> None:
    with _build(args).locked() as build:
        _publish(build)


def _one_stage(args: argparse.Namespace) -> None:
    folder = Path(args.dataset).expanduser()
    if args.stage == "verify" and (args.dataset not in DATASETS or (folder / MANIFEST).exists()):
        counts = verify_folder(folder)
        print(f"{folder}: all good, {counts_in_words(counts)}")
        return
    with _build(args).locked() as build:
        _run_and_tell(build, args.stage)


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
    state = "nothing to do" if outcome.reused else f"done in {outcome.receipt.seconds:.1f} s"
    log.info("%-16s %s: %s", name, state, outcome.told())

"""The command-line options that make up a build's settings."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from imagenet_etl.cli_cloud_options import add_cloud, tags_of
from imagenet_etl.config import (
    BOUNDS,
    EXPECTATIONS,
    FORMATS,
    KEEP_ARCHIVES,
    LABEL_ORDERS,
    SHUFFLES,
    Settings,
)
from imagenet_etl.datasets import DATASETS, facts_of
from imagenet_etl.errors import ConfigError
from imagenet_etl.images.geometry import MODES
from imagenet_etl.images.spec import SUBSAMPLINGS

_FORMAT_HELP = (
    f"{', '.join(FORMATS)}; what its images shall have of their own may follow, as in "
    "lmdb:squash:224x224:q90; may be given several times (default: recordio)"
)


def add_settings(parser: argparse.ArgumentParser, metavar: str = "DATASET") -> None:
    """Add the dataset and all its settings."""
    parser.add_argument("dataset", metavar=metavar, help=" or ".join(DATASETS))
    _add_places(parser)
    _add_labels(parser)
    _add_images(parser)
    _add_records(parser)
    add_cloud(parser)


def _add_places(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("places")
    add = group.add_argument
    add(
        "--data-dir", metavar="DIR", help="holds archives/, work/ and datasets/; or an s3:// prefix"
    )
    add(
        "--source",
        action="append",
        default=[],
        metavar="[ARCHIVE=]PATH_OR_URL",
        help="where an archive is, in place of its publisher's URL, or what holds all of them: a "
        "folder of archives, an unpacked tree, a zip; may end in #sha256=HEX",
    )
    add(
        "--split",
        action="append",
        default=[],
        metavar="SPLIT",
        help="prepare this split alone; may be given several times (default: all, or those of the "
        "archives that are given)",
    )
    add(
        "--expect",
        choices=EXPECTATIONS,
        default="published",
        help="demand the published counts and digests, or take any (for samples)",
    )
    add(
        "--keep-archives",
        choices=KEEP_ARCHIVES,
        default="always",
        help="when archives that were fetched are deleted: once the version is verified (never "
        "kept), once they are backed up too (see --back-up), or not (default: %(default)s)",
    )
    add("--version", default="", metavar="NAME", help="name of the version (default: a digest)")
    add(
        "--run",
        dest="run_token",
        default="",
        metavar="TOKEN",
        help="what the commands of one build have in common, such as a job array's id: they "
        "share its lock and may run at once",
    )
    _add_number(group, "workers", 0, "packing processes; 0 for one a core")
    _add_number(group, "connections", 4, "ranges of an archive that are fetched at once")


def _add_labels(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("labels")
    add = group.add_argument
    add(
        "--label-order",
        choices=LABEL_ORDERS,
        default="wnid",
        help="count labels by sorted wnid, as torchvision and Caffe do, or by the devkit's ids "
        "(default: %(default)s)",
    )
    for name, text in (
        ("keep", "keep this class and no other"),
        ("drop", "leave this class out"),
    ):
        add(
            f"--{name}-class",
            action="append",
            default=[],
            dest=f"{name}_classes",
            metavar="WNID",
            help=f"{text}; may be given several times",
        )
    _add_number(
        group,
        "min-images-per-class",
        0,
        "leave classes with fewer training images out, unless they are kept by name",
    )
    _add_number(
        group,
        "val-images-per-class",
        0,
        "training images of each class that become validation images, where there are none",
    )


def _add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images")
    add = group.add_argument
    add("--resize", default="none", metavar="MODE:SIZE", help=f"{', '.join(MODES)} (default: none)")
    add("--upscale", action="store_true", help="enlarge smaller images too")
    add("--center-crop", action="store_true", help="cut out the middle square first")
    _add_number(group, "quality", 90, "JPEG quality of re-encoded images")
    add(
        "--subsampling",
        choices=SUBSAMPLINGS,
        default="420",
        help="chroma subsampling of re-encoded images (default: %(default)s)",
    )
    add("--png", action="store_true", help="store PNG instead of JPEG")
    add(
        "--im2rec-compat",
        action="store_true",
        help="draw every image as im2rec does: bilinear, floor division, enlarging",
    )
    add(
        "--max-bad",
        type=int,
        metavar="N",
        help="images that may be quarantined (default: 0.01 %%, at least 1)",
    )
    _add_number(group, "max-bad-classes", 0, "class tars that may be missing, empty or damaged")


def _add_records(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("records")
    add = group.add_argument
    add("--format", action="append", dest="formats", metavar="FORMAT[:IMAGES]", help=_FORMAT_HELP)
    _add_number(group, "shards", 0, "training shards; 0 leaves it to --shard-mib", "--chunks")
    _add_number(group, "val-shards", 1, "validation shards; 0 leaves it to --shard-mib")
    _add_number(
        group,
        "shard-mib",
        0,
        "target size of a shard in MiB of images as they are in the archive; 0 for a segment each",
    )
    add(
        "--shuffle",
        choices=SHUFFLES,
        default="global",
        help="shuffle all records as im2rec does, blocks of neighbours (for disks that seek), or "
        "none (default: %(default)s)",
    )
    _add_number(group, "seed", 100, "seed of the shuffle and of drawn validation images")
    add(
        "--train-ratio",
        type=float,
        default=1.0,
        metavar="R",
        help="share of the training images that stays training data (default: 1)",
    )
    add(
        "--test-ratio",
        type=float,
        default=0.0,
        metavar="R",
        help="share that becomes the split test; the rest becomes val (default: 0)",
    )
    add(
        "--allow-loose-files",
        action="store_true",
        help="let imagefolder write more than 250,000 files",
    )
    add(
        "--hardlink",
        action="store_true",
        help="let imagefolder's files be hard links to those of an unpacked source",
    )


def _add_number(
    group: argparse._ArgumentGroup, name: str, default: int, text: str, *aliases: str
) -> None:
    setting = name.replace("-", "_")
    low, high = BOUNDS[setting]
    bounds = f"{low} to {high}" if high < 2**31 else f"{low} or more"
    of_datasets = [f", {name} {facts.defaults[setting]}" for name, facts in DATASETS.items()
                   if setting in facts.defaults]  # fmt: skip
    group.add_argument(
        f"--{name}",
        *aliases,
        type=int,
        default=None if of_datasets else default,
        metavar="N",
        help=f"{text}; {bounds} (default: {default}{''.join(of_datasets)})",
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings that a command line asks for.

    Raises:
        ConfigError: One is missing or wrong.
    """
    data_dir = args.data_dir or ""
    if not data_dir:
        raise ConfigError(
            "--data-dir is missing", remedy="Give the folder that is to hold the data"
        )
    named = {item.name for item in fields(Settings)} & vars(args).keys()
    given = {name: getattr(args, name) for name in named if getattr(args, name) is not None}
    return Settings(
        **facts_of(args.dataset).defaults
        | given
        | {
            "data_dir": _absolute(data_dir),
            "sources": _sources(args.dataset, args.source),
            "splits": tuple(args.split),
            "formats": tuple(dict.fromkeys(args.formats or ["recordio"])),
            "back_up": tuple(args.back_up or ["dataset"]),
            "s3_tags": tags_of(args.s3_tags),
        }
    )


def _sources(dataset: str, items: list[str]) -> dict[str, str]:
    """Return the sources by the archive that each is for.

    Raises:
        ConfigError: One is empty or names no archive of the dataset, or two are for one.
    """
    facts = facts_of(dataset)
    sources: dict[str, str] = {}
    for item in items:
        name, equals, place = item.partition("=")
        # A path may hold an equals sign as well; an archive's name holds no slash.
        if not equals or "/" in name:
            name, place = facts.archive_at(item), item
        if not place.strip():
            # An empty path would be the current folder.
            raise ConfigError(
                f"--source {item!r} gives no place",
                expected="[ARCHIVE=]PATH_OR_URL",
                remedy="Is a variable of your script empty?",
            )
        if name in sources:
            raise ConfigError(f"--source for {name} twice", expected="one source an archive")
        sources[facts.archive(name).name] = _absolute(place)
    return sources


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).expanduser().absolute())

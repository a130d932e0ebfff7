"""The commands ``datasets``, ``where``, ``register`` and ``prune``: what there is, and where."""

from __future__ import annotations

import argparse
import json
import logging
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.cli_aws import aws_client
from imagenet_etl.cli_cloud_options import tags_of
from imagenet_etl.config import FORMATS
from imagenet_etl.datastore.catalog import Catalog, images_of
from imagenet_etl.datastore.listing import listed, listing_lines, size_in_words
from imagenet_etl.datastore.register import register_tree
from imagenet_etl.datastore.store import Datastore, known_catalogs
from imagenet_etl.datastore.where import split_name, where
from imagenet_etl.errors import ConfigError
from imagenet_etl.files import typed_os_errors
from imagenet_etl.leases import Owner
from imagenet_etl.pruning import prune_versions
from imagenet_etl.storage import Storage
from imagenet_etl.storage.opening import open_storage

log = logging.getLogger("imagenet_etl")


def add_datastore(commands: Any) -> None:
    """Add the commands to the parser's commands."""
    summary = "list the versions of all datasets, the latest marked, and where copies are"
    datasets = commands.add_parser("datasets", help=summary, description=summary)
    _add_places(datasets)
    datasets.add_argument("--json", action="store_true", help="print everything that is known")
    datasets.set_defaults(run=_datasets)
    summary = "print the path of a version, or the URL of its backup if it is not on this machine"
    find = commands.add_parser("where", help=summary, description=summary)
    find.add_argument("name", metavar="NAME[@VERSION]", help="a dataset; its latest version")
    _add_places(find)
    find.add_argument("--format", default="", choices=FORMATS, help="the folder of this format")
    find.set_defaults(run=_where)
    summary = "enter a tree of class folders into the registry as it stands; nothing in it changes"
    register = commands.add_parser("register", help=summary, description=summary)
    register.add_argument(
        "dir", type=Path, metavar="DIR", help="holds train/CLASS/x.jpg and the like, or CLASS/x.jpg"
    )
    register.add_argument("--name", required=True, metavar="NAME", help="what to call it")
    register.add_argument("--data-dir", required=True, metavar="DIR", help="holds the registry")
    register.add_argument(
        "--version", default="", metavar="NAME", help="name of the version (default: a digest)"
    )
    register.set_defaults(run=_register)
    _add_prune(commands)


def _add_prune(commands: Any) -> None:
    summary = "list what is older than the newest versions, and with --delete remove it everywhere"
    prune = commands.add_parser("prune", help=summary, description=summary)
    prune.add_argument("dataset", metavar="DATASET")
    prune.add_argument("--data-dir", required=True, metavar="DIR", help="holds the versions")
    prune.add_argument("--s3-uri", default="", metavar="URI", help="where versions are backed up")
    prune.add_argument(
        "--keep-versions", type=int, required=True, metavar="N", help="how many to keep, 1 or more"
    )
    prune.add_argument(
        "--s3-tag",
        action="append",
        default=[],
        dest="s3_tags",
        metavar="NAME=VALUE",
        help="tag of the catalog in the bucket, as for backups; may be given several times",
    )
    prune.add_argument("--delete", action="store_true", help="really remove; else only tell")
    prune.set_defaults(run=_prune)


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", default="", metavar="DIR", help="look in this data folder")
    parser.add_argument("--s3-uri", default="", metavar="URI", help="look below this backup")


def _datasets(args: argparse.Namespace) -> None:
    storage, catalogs = _known(args)
    if args.json:
        print(json.dumps(listed(storage, catalogs), indent=2, ensure_ascii=False))
        return
    for line in listing_lines(storage, catalogs):
        print(line)
    if not catalogs:
        log.info("nothing is registered there")


def _where(args: argparse.Namespace) -> None:
    name, version = split_name(args.name)
    storage, catalogs = _known(args)
    print(where(storage, catalogs.get(name, Catalog(name)), version, args.format))


def _known(args: argparse.Namespace) -> tuple[Storage | None, dict[str, Catalog]]:
    """Return the data folder, if one is given, and the catalogs of all places.

    Raises:
        ConfigError: No place is given.
    """
    if not args.data_dir and not args.s3_uri:
        raise ConfigError("no place to look in", expected="--data-dir or --s3-uri, or both")
    storage = _storage(args.data_dir) if args.data_dir else None
    return storage, known_catalogs(storage, _client, args.s3_uri)


def _register(args: argparse.Namespace) -> None:
    storage = _storage(args.data_dir)
    try:
        with typed_os_errors(str(args.dir)):
            version, entry = register_tree(storage, args.dir, args.name, _owner(), args.version)
    finally:
        storage.close_staging()
    log.info(
        "%s@%s: %s images in %s classes, %s",
        args.name,
        version,
        f"{images_of(entry):,}",
        f"{entry['counts']['classes']:,}",
        size_in_words(entry["bytes"]),
    )
    print(f"{args.name}@{version}")


def _prune(args: argparse.Namespace) -> None:
    storage = _storage(args.data_dir)
    options = {"Tagging": urlencode(sorted(tags_of(args.s3_tags).items()))} if args.s3_tags else {}
    store = Datastore(args.dataset, storage, _owner(), _client, args.s3_uri, options)
    try:
        report = prune_versions(store, args.keep_versions, really=args.delete)
    finally:
        storage.close_staging()
    for line in report.lines():
        print(line)
    if report.versions and not report.really:
        log.info("nothing was removed; --delete does it")


def _storage(data_dir: str) -> Storage:
    place = data_dir if "://" in data_dir else str(Path(data_dir).expanduser())
    return open_storage(place, lambda: _client("s3"))


def _owner() -> Owner:
    unique = uuid.uuid4().hex[:12]
    return Owner(run=f"cli-{unique}", claim=unique)


def _client(service: str, region: str = "") -> Any:
    with typed_aws_errors("the client", service):
        return aws_client(service, region or None)

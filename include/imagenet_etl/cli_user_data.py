"""The command ``user-data``: a launch script for an instance."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from imagenet_etl.aws.user_data import VERIFY, VOLUME_TYPES, Consumer, Producer
from imagenet_etl.errors import ConfigError

_OTHER = {"producer": "consumer", "consumer": "producer"}
_OPTIONS: dict[str, tuple[str, ...]] = {
    "producer": ("size_gib", "name", "owner", "stripe_scratch", "stop_when_done"),
    "consumer": ("dataset", "verify", "shared_by"),
}
"""Of each role; the first is needed."""


def add_user_data(commands: Any) -> None:
    """Add the command to the parser's commands."""
    summary = "print a cloud-init script that mounts an instance's volume at launch"
    command = commands.add_parser("user-data", help=summary, description=summary)
    add = command.add_argument
    add(
        "--role",
        choices=tuple(_OPTIONS),
        required=True,
        help="producer: a volume to build datasets on; consumer: a dataset from its snapshot",
    )
    add("--mount", required=True, metavar="DIR", help="where the volume is mounted")
    add(
        "--region",
        default="",
        metavar="R",
        help="refuse to run in another region (default: the instance's)",
    )
    add("--volume-type", choices=VOLUME_TYPES, default="gp3", help="of a new volume (default: gp3)")
    of = command.add_argument_group("consumer").add_argument
    of("--dataset", metavar="NAME[@VERSION]", help="the dataset (default version: the newest)")
    of("--verify", choices=VERIFY, help="full reads every byte (default: fast)")
    of(
        "--shared-by",
        metavar="ACCOUNT",
        help="account, of twelve digits, that shares the snapshot (default: the instance's own)",
    )
    of = command.add_argument_group("producer").add_argument
    of("--size-gib", type=int, metavar="N", help="size of the volume when it has to be made")
    of("--name", help="tag by which the volume is found again (default: imagenet-data)")
    of("--owner", metavar="USER[:GROUP]", help="owner of a new file system (default: root)")
    of("--stripe-scratch", metavar="DIR", help="mount the instance's own NVMe disks there")
    of(
        "--stop-when-done",
        action="store_const",
        const=True,
        help="install imagenet-etl-run, which stops the instance when a command has ended",
    )
    command.set_defaults(run=_user_data)


def _user_data(args: argparse.Namespace) -> None:
    mine, others = _OPTIONS[args.role], _OPTIONS[_OTHER[args.role]]
    given = {name: getattr(args, name) for name in (*mine, *others)}
    given = {name: value for name, value in given.items() if value is not None}
    for name in others:
        if name in given:
            raise ConfigError(f"a {args.role} has no --{name.replace('_', '-')}")
    if mine[0] not in given:
        raise ConfigError(f"a {args.role} needs --{mine[0].replace('_', '-')}")
    kind: type[Consumer | Producer] = Consumer if args.role == "consumer" else Producer
    given |= {"mount_point": args.mount, "region": args.region, "volume_type": args.volume_type}
    sys.stdout.write(kind(**given).script())

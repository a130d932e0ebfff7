"""The command ``share-folder``: the mark of a data folder that several machines share."""

from __future__ import annotations

import argparse
from typing import Any

from imagenet_etl.shared_folder import MARK, share_folder


def add_share(commands: Any) -> None:
    """Add the command to the parser's commands."""
    summary = "mark a data folder that several machines share; what is in it stays as it is"
    share = commands.add_parser("share-folder", help=summary, description=summary)
    share.add_argument("folder", metavar="DIR", help="the folder; made if need be")
    share.set_defaults(run=_share)


def _share(args: argparse.Namespace) -> None:
    mark, is_new = share_folder(args.folder)
    told = "is marked now" if is_new else f"was marked before, on {mark.made_by} at {mark.at}"
    print(f"{args.folder} {told}: {MARK}, id {mark.id}")

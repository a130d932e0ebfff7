"""The command ``sample``: a miniature of a dataset's archives."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from imagenet_etl.samples import FALL11_LAYOUTS, LAYOUTS, SAMPLES, WINTER21_LAYOUTS, SampleSize

log = logging.getLogger(__name__)


def add_sample(commands: Any) -> None:
    """Add the command to the parser's commands."""
    summary = "build miniature archives in a dataset's official layout"
    sample = commands.add_parser("sample", help=summary, description=summary)
    size = SampleSize()
    add = sample.add_argument
    add("dataset", choices=sorted(SAMPLES), metavar="DATASET", help=" or ".join(SAMPLES))
    add(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="the archive to write; a folder for all of ilsvrc2012, or for a layout of many files",
    )
    add(
        "--layout",
        choices=tuple(dict.fromkeys((*LAYOUTS, *FALL11_LAYOUTS))),
        metavar="LAYOUT",
        help=f"of ilsvrc2012: {', '.join(LAYOUTS)}; of fall11: {', '.join(FALL11_LAYOUTS)}; "
        f"of winter21: {', '.join(WINTER21_LAYOUTS)} (default: the first)",
    )
    add("--images", type=Path, metavar="DIR_OR_TAR", help="images to use, generated ones if absent")
    for name, value, text in (
        ("classes", size.classes, ""),
        ("train", size.train, "training images a class; of fall11 and winter21, of the largest "),
        ("val", size.val, "validation images a class "),
        ("test", size.test, "unlabelled images in all, where the layout has any "),
    ):
        add(f"--{name}", type=int, default=value, metavar="N", help=f"{text}(default: {value})")
    add("--stored", action="store_true", help="store a zip's members instead of deflating them")
    sample.set_defaults(run=_sample)


def _sample(args: argparse.Namespace) -> None:
    size = SampleSize(args.classes, args.train, args.val, args.test)
    layout = {} if args.layout is None else {"layout": args.layout}
    SAMPLES[args.dataset](args.out, args.images, size, stored=args.stored, **layout)
    log.info("%s is there", args.out)

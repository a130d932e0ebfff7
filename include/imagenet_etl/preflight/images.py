"""How many images of how many bytes a run will pack, split by split, before they are counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from imagenet_etl.build import Build
from imagenet_etl.preflight.archives import Known
from imagenet_etl.receipts import Receipt
from imagenet_etl.shards import Split, spans_of

IMAGE_BYTES = 100_000
"""An image, where nothing tells how many there are: fall11 has 92 kB on average, ILSVRC2012 115."""


@dataclass(frozen=True)
class Share:
    """One split, as an upper bound: what a class filter takes away is not known yet.

    Attributes:
        split: Its name.
        images: How many images; None if nobody knows.
        bytes: Their bytes in the archive; None if nobody knows.
        is_packed: Whether it gets into the output.
        is_joined: Whether its shards are made of several segments, and so written twice.
    """

    split: str
    images: int | None
    bytes: int | None
    is_packed: bool = True
    is_joined: bool = False


def shares_of(build: Build, archives: Sequence[Known], done: Mapping[str, Receipt]) -> list[Share]:
    """Return what each split holds, that of validation images taken out of training too."""
    shares = []
    for split in build.facts.layout.images:
        holders = [archive for archive in archives if split in archive.splits]
        if not holders:
            continue
        parts = [_part(build, archive, split) for archive in holders]
        stored = None if None in parts else sum(part or 0 for part in parts)
        images = _images(build, split, stored, done)
        is_packed = split not in build.facts.unlabelled
        shares.append(Share(split, images, stored, is_packed))
    return [_with_joining(build, share) for one in shares for share in _divided(build, one)]


def _part(build: Build, archive: Known, split: str) -> int | None:
    """Return how many bytes of an archive belong to a split."""
    if archive.size is None or len(archive.splits) == 1:
        return archive.size
    weights = {name: build.facts.expected.get(name, 0) for name in archive.splits}
    total = sum(weights.values())
    if not total:
        return archive.size
    return math.ceil(archive.size * weights[split] / total)


def _images(
    build: Build, split: str, stored: int | None, done: Mapping[str, Receipt]
) -> int | None:
    """Return the number that was counted, published, or goes with so many bytes."""
    if "untar" in done:
        counted = done["untar"].counts.get(f"{split}_images")
        if counted is not None:
            return counted
    published = build.facts.expected.get(split, 0)
    if build.settings.expect == "published" and published:
        return published
    return None if stored is None else math.ceil(stored / IMAGE_BYTES)


def _divided(build: Build, share: Share) -> list[Share]:
    """Take the validation images out of the training images, where the dataset has none itself."""
    wanted = build.settings.val_images_per_class
    if share.split != "train" or "val" in build.facts.layout.images or not wanted:
        return [share]
    if not share.images or share.bytes is None:
        return [share]
    count = min(share.images, wanted * build.facts.classes)
    stored = share.bytes * count // share.images
    train = replace(share, images=share.images - count, bytes=share.bytes - stored)
    return [train, replace(share, split="val", images=count, bytes=stored)]


def _with_joining(build: Build, share: Share) -> Share:
    """Note whether shards are made of parts, by the rule that the plan will follow."""
    if not share.images or not share.is_packed:
        return share
    split = Split(share.split, share.images, share.bytes or 0)
    first = next(spans_of(split, build.settings, first=0))
    return replace(share, is_joined=first.segment.parts > 1)

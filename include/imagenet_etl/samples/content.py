"""What a sample of ILSVRC2012 holds, whatever its layout."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import ConfigError
from imagenet_etl.labels.devkit import Synset
from imagenet_etl.samples.images import SampleSize, sample_images


@dataclass(frozen=True)
class SampleImage:
    """One image file.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        wnid: Its class; empty for a test image.
        name: The file's name.
        data: The file's bytes.
    """

    split: str
    wnid: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Content:
    """Classes, labels and images of a sample.

    Attributes:
        synsets: The classes in the order of their ids, which is not that of their wnids.
        val: The wnid of each validation image by file name, in the order of the names.
        size: How many there are of each.
        images: Where images are taken from; None where they are generated.
    """

    synsets: list[Synset]
    val: dict[str, str]
    size: SampleSize
    images: Path | None

    @property
    def wnids(self) -> list[str]:
        """The classes' wnids in sorted order."""
        return sorted(synset.wnid for synset in self.synsets)

    def files(self, *, test: bool) -> Iterator[SampleImage]:
        """Yield the images one by one: train class by class, val, and test if asked for.

        Raises:
            ConfigError: An image cannot be decoded, or there are too few.
        """
        count = self.size.labelled + (self.size.test if test else 0)
        files = sample_images(self.images, count, self.size.classes).files
        for wnid in self.wnids:
            for number in range(self.size.train):
                yield SampleImage("train", wnid, f"{wnid}_{number}.JPEG", next(files))
        for name, wnid in self.val.items():
            yield SampleImage("val", wnid, name, next(files))
        for number, data in enumerate(files, 1):
            yield SampleImage("test", "", f"ILSVRC2012_test_{number:08d}.JPEG", data)


def content_of(images: Path | None, size: SampleSize) -> Content:
    """Decide on classes and labels; equal arguments give equal ones.

    Raises:
        ConfigError: There are too few images.
    """
    # Unlabelled images have no say: a layout without them has the same classes.
    wnids = sorted(sample_images(images, size.labelled, size.classes).wnids)
    known = _known_names(images)
    synsets = [
        Synset(number, wnid, known.get(wnid, f"sample class {wnid}, sample {wnid}"))
        for number, wnid in enumerate(_id_order(wnids), 1)
    ]
    val = {
        f"ILSVRC2012_val_{number:08d}.JPEG": wnid
        for number, wnid in enumerate(_dealt(wnids, size.val), 1)
    }
    return Content(synsets, val, size, images)


def _id_order(wnids: list[str]) -> list[str]:
    """Return the wnids so that none is in its place, nor where a map read backwards puts it."""
    count = len(wnids)
    rng, places = random.Random(f"ids of {count}"), list(range(count))
    while count > 1:
        rng.shuffle(places)
        kept = any(place == at for at, place in enumerate(places))
        if not kept and (count == 2 or any(places[places[at]] != at for at in range(count))):
            break
    return [wnids[place] for place in places]


def _dealt(wnids: list[str], per_class: int) -> list[str]:
    """Return each wnid so many times, in an order that no rule but the list itself gives."""
    hand = wnids * per_class
    rng = random.Random(f"val of {len(hand)}")
    if len(wnids) > 1:
        while hand == sorted(hand) or hand == hand[: len(wnids)] * per_class:
            rng.shuffle(hand)
            if per_class == 1 and hand != wnids:
                break
    return hand


def _known_names(images: Path | None) -> dict[str, str]:
    """Return names by wnid from ``classes.tsv`` beside the images, if it is there."""
    path = images.absolute().parent / "classes.tsv" if images else None
    if path is None or not path.is_file():
        return {}
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}", expected="text in UTF-8", found=error) from error
    return {
        row[0]: row[1]
        for row in rows
        if len(row) == 2 and WNID.fullmatch(row[0]) and row[1] and row[1].isprintable()
    }

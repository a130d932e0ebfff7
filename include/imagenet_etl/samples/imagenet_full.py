"""A miniature of the whole of ImageNet: fall11 or winter21, one tar a class.

Classes have long-tailed sizes, as the real ones have: class *c* of *C*, counted from the largest,
has ``largest / (1 + 39 c / (C - 1))`` images, so that the smallest has a fortieth of the largest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from gzip import GzipFile
from itertools import count, islice
from pathlib import Path
from typing import Any

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import ConfigError
from imagenet_etl.samples.images import (
    SampleSize,
    generated_thumbnail,
    new_file,
    new_folder,
    sample_images,
)
from imagenet_etl.samples.tars import EPOCH, add_file, add_folder, new_tar, tar_of

FALL11_LAYOUTS = ("whole", "class-tars", "tree")
WINTER21_LAYOUTS = ("whole", "class-tars")
LARGEST_TO_SMALLEST = 40
EDGE = 24
_LAYOUTS = (*FALL11_LAYOUTS, "whole-gz")
_WINTER21_ROOT = "winter21_whole"
_MODULUS, _STEP = 9_999_991, 6_180_331
"""A prime, so that the numbers of a class repeat only after as many; and a step of about 0.6 of it,
so that neighbours are far apart."""


@dataclass(frozen=True)
class FullTruth:
    """What a reader of the sample should find.

    Attributes:
        sizes: The number of images by wnid, in the order of the archive.
    """

    sizes: dict[str, int]

    @property
    def images(self) -> int:
        """How many images there are in all."""
        return sum(self.sizes.values())

    def file_names(self, wnid: str) -> list[str]:
        """Return the names of a class's files, in the order of its tar."""
        return file_names(wnid, self.sizes[wnid])


def build_imagenet_full(
    out: Path,
    images: Path | None,
    sizes: Mapping[str, int] | Sequence[int],
    *,
    layout: str = "whole",
    edge: int = EDGE,
) -> FullTruth:
    """Write a sample with exactly so many images a class.

    The same call gives the same bytes, and every layout holds the same images under the same names.
    One class at a time is held in memory.

    Args:
        out: The file to write; for ``class-tars`` and ``tree`` the folder.
        images: Folder or tar of JPEGs, taken as they are; None to generate images.
        sizes: How many images a class has, by wnid or for made-up wnids.
        layout: ``whole``: fall11's tar of class tars; ``whole-gz``: winter21's, gzipped, with a
            folder around them; ``class-tars``: those in a folder; ``tree``: a folder a class.
        edge: Width and height of generated images in pixels.

    Raises:
        ConfigError: There are too few images, or the layout, a size or a wnid is none.
        KeyExists: ``out`` is there already.
    """
    if layout not in _LAYOUTS:
        raise ConfigError(f"--layout {layout}", expected=f"one of {', '.join(_LAYOUTS)}")
    truth, files = _content(images, sizes, edge)
    classes = (
        (wnid, list(zip(file_names(wnid, size), islice(files, size), strict=True)))
        for wnid, size in truth.sizes.items()
    )
    opened = new_folder if layout in ("class-tars", "tree") else new_file
    with opened(out) as staged, _writer(layout, staged) as add:
        for wnid, named in classes:
            add(wnid, named)
    return truth


def build_fall11(
    out: Path,
    images: Path | None,
    size: SampleSize,
    *,
    stored: bool = False,
    layout: str = "whole",
) -> FullTruth:
    """Write a sample of fall11 with long-tailed class sizes; see ``build_imagenet_full``.

    Args:
        out: The tar to write; for ``class-tars`` and ``tree`` the folder.
        images: Folder or tar of JPEGs; None to generate tiny ones.
        size: Number of classes, and under ``train`` the images of the largest.
        stored: Not to be asked for: no layout is a zip.
        layout: ``whole``, ``class-tars`` or ``tree``.

    Raises:
        ConfigError: There are too few images, or something is asked for that the set has not.
        KeyExists: ``out`` is there already.
    """
    _check_options("imagenet_fall11", size, layout, FALL11_LAYOUTS, stored=stored)
    return build_imagenet_full(out, images, long_tail(size.classes, size.train), layout=layout)


def build_winter21(
    out: Path,
    images: Path | None,
    size: SampleSize,
    *,
    stored: bool = False,
    layout: str = "whole",
) -> FullTruth:
    """Write a sample of winter21: ``whole`` is a gzipped tar, ``class-tars`` a folder.

    All else is as in ``build_fall11``.

    Raises:
        ConfigError: There are too few images, or something is asked for that the set has not.
        KeyExists: ``out`` is there already.
    """
    _check_options("imagenet_winter21", size, layout, WINTER21_LAYOUTS, stored=stored)
    layout = "whole-gz" if layout == "whole" else layout
    return build_imagenet_full(out, images, long_tail(size.classes, size.train), layout=layout)


def long_tail(classes: int, largest: int) -> list[int]:
    """Return class sizes after the module's formula, at least 1 each, dealt in a fixed order."""
    steps = max(1, classes - 1)
    sizes = [
        max(1, round(largest / (1 + (LARGEST_TO_SMALLEST - 1) * place / steps)))
        for place in range(classes)
    ]
    # In the real set as well, a class's wnid says nothing of its size.
    random.Random(f"sizes of {classes}").shuffle(sizes)
    return sizes


def file_names(wnid: str, size: int) -> list[str]:
    """Return distinct names for a class's files, in no order, as in the real tars."""
    start = int(wnid[1:])
    return [f"{wnid}_{file_number(start, place)}.JPEG" for place in range(size)]


def file_number(start: Any, place: Any) -> Any:
    """Return the number in the name of a class's file: whole numbers or arrays of NumPy of them.

    Args:
        start: The number in the class's wnid.
        place: The file's place in the class, from 0; at most 9,999,990.
    """
    return (start + place * _STEP) % _MODULUS


def _check_options(
    dataset: str, size: SampleSize, layout: str, layouts: tuple[str, ...], *, stored: bool
) -> None:
    if layout not in layouts:
        raise ConfigError(f"--layout {layout}", expected=f"one of {', '.join(layouts)}")
    for option, given in (
        ("--val", size.val != SampleSize.val),
        ("--test", size.test not in {0, SampleSize.test}),
        ("--stored", stored),
    ):
        if given:
            raise ConfigError(
                f"{option} has no effect on a sample of {dataset}",
                expected="--classes, and --train for the size of the largest",
                remedy=f"Leave {option} out",
            )


def _content(
    images: Path | None, sizes: Mapping[str, int] | Sequence[int], edge: int
) -> tuple[FullTruth, Iterator[bytes]]:
    counts = list(sizes.values()) if isinstance(sizes, Mapping) else list(sizes)
    if not counts or min(counts) < 0 or max(counts) > _MODULUS:
        raise ConfigError("class sizes of a sample", expected=f"some of 0 to {_MODULUS:,}")
    files: Iterator[bytes] = (generated_thumbnail(seed, edge) for seed in count())
    wnids = [f"n{number:08d}" for number in range(1, len(counts) + 1)]
    if images is not None:
        pool = sample_images(images, sum(counts), len(counts))
        files, wnids = pool.files, sorted(pool.wnids)
    if isinstance(sizes, Mapping):
        wnids = list(sizes)
    for wnid in wnids:
        if not WNID.fullmatch(wnid):
            raise ConfigError("wnid of a sample", expected="such as n02510455", found=repr(wnid))
    return FullTruth(dict(zip(wnids, counts, strict=True))), files


_AddClass = Callable[[str, list[tuple[str, bytes]]], None]


@contextmanager
def _writer(layout: str, staged: Path) -> Iterator[_AddClass]:
    """Yield what takes one class after the other, each with the names and contents of its files."""
    if layout in ("class-tars", "tree"):
        yield partial(_add_class_tar if layout == "class-tars" else _add_class_folder, staged)
        return
    with ExitStack() as stack:
        file = stack.enter_context(staged.open("wb"))
        if layout == "whole":
            tar, prefix = stack.enter_context(new_tar(file)), ""
        else:
            packed = stack.enter_context(GzipFile("", "wb", fileobj=file, mtime=EPOCH))
            tar, prefix = stack.enter_context(new_tar(packed)), f"{_WINTER21_ROOT}/"
            add_folder(tar, _WINTER21_ROOT)
        yield lambda wnid, files: add_file(tar, f"{prefix}{wnid}.tar", tar_of(files))


def _add_class_tar(folder: Path, wnid: str, files: list[tuple[str, bytes]]) -> None:
    (folder / f"{wnid}.tar").write_bytes(tar_of(files))


def _add_class_folder(folder: Path, wnid: str, files: list[tuple[str, bytes]]) -> None:
    (folder / wnid).mkdir()
    for name, data in files:
        (folder / wnid / name).write_bytes(data)

"""Read the labels of ILSVRC2012 as Kaggle's competition ships them.

Source: the data page of Kaggle's "ImageNet Object Localization Challenge".
``LOC_val_solution.csv`` has a line an image, in no order, with a wnid and a box for each object;
``LOC_synset_mapping.txt`` has a line a class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import LabelError

VAL_SOLUTION = "LOC_val_solution.csv"
SYNSET_MAPPING = "LOC_synset_mapping.txt"
_HEADER = "ImageId,PredictionString"
_IMAGE = re.compile(r"ILSVRC2012_val_[0-9]{8}")
_EDGE = re.compile(r"-?[0-9]{1,9}")
_BOX = 5
"""Words that tell of an object: its wnid, then the box's left, upper, right and lower edge."""


def parse_val_solution(text: str) -> dict[str, str]:
    """Return the class of each validation image by file name, in the order of the lines.

    Raises:
        LabelError: A line is malformed, repeats an image, or has objects of several classes.
    """
    lines = _lines(text)
    if next(lines, (1, "")) != (1, _HEADER):
        first = text.split("\n", 1)[0]
        raise _bad(VAL_SOLUTION, 1, _HEADER, first)
    labels: dict[str, str] = {}
    for number, line in lines:
        image, _, objects = line.partition(",")
        name = f"{image}.JPEG"
        if not _IMAGE.fullmatch(image) or name in labels:
            raise _bad(VAL_SOLUTION, number, "a new image of ILSVRC2012_val", line)
        wnids = _classes(objects.split())
        if len(wnids) != 1:
            expected = "a wnid and four whole numbers for each object, all of one class"
            raise _bad(VAL_SOLUTION, number, expected, line)
        labels[name] = wnids.pop()
    return labels


def parse_synset_mapping(text: str) -> dict[str, str]:
    """Return the names of each class by wnid, separated by a comma and a space.

    Raises:
        LabelError: A line is malformed or repeats a class.
    """
    names: dict[str, str] = {}
    for number, line in _lines(text):
        wnid, _, words = line.partition(" ")
        words = words.strip()
        if not WNID.fullmatch(wnid) or wnid in names or not words or not words.isprintable():
            raise _bad(SYNSET_MAPPING, number, "a new wnid, a space and its names", line)
        names[wnid] = words
    return names


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and content of the lines; only the last may be empty."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        yield number, line.removesuffix("\r")


def _classes(words: list[str]) -> set[str]:
    """Return the classes of the objects that words tell of; none where they are malformed."""
    wnids = words[::_BOX]
    edges = [word for at, word in enumerate(words) if at % _BOX]
    if len(words) % _BOX or not all(map(_EDGE.fullmatch, edges)):
        return set()
    return set(wnids) if all(map(WNID.fullmatch, wnids)) else set()


def _bad(file: str, number: int, expected: str, line: str) -> LabelError:
    return LabelError(
        f"{file} line {number}",
        expected=expected,
        found=repr(line[:80]),
        remedy="Is the file complete? Download it again",
    )

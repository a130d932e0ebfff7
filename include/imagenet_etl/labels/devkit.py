"""Read the development kit of ILSVRC2012: its classes, and the class of each validation image.

Source: the kit's own ``readme.txt``. ``data/meta.mat`` holds an array of structs, ``synsets``: the
classes of the challenge first, with ids from 1 and no children, then the synsets above them. Line n
of ``data/ILSVRC2012_validation_ground_truth.txt`` is the id of validation image n. Ids do not
follow the order of the wnids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import LabelError
from imagenet_etl.labels.mat import MatError, Value, read_structs

META = "data/meta.mat"
GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_NUMBER = re.compile(r"[0-9]{1,9}")
_FIELDS = ("ILSVRC2012_ID", "WNID", "words", "num_children")
_AGAIN = "Is the development kit complete? Download it again"


@dataclass(frozen=True)
class Synset:
    """A class of the challenge.

    Attributes:
        id: The devkit's number for it, from 1.
        wnid: Its WordNet id.
        names: Its names, separated by a comma and a space.
    """

    id: int
    wnid: str
    names: str


def parse_meta(data: bytes) -> list[Synset]:
    """Return the classes that ``meta.mat`` describes, in the order of their ids.

    Raises:
        LabelError: It is no MAT file, lacks a field, or its classes are not numbered from 1 or not
            named by a wnid of their own.
    """
    try:
        rows = read_structs(data, "synsets", _FIELDS)
    except MatError as error:
        raise _unfit("content", "a MAT file with synsets", error) from error
    if set(_FIELDS) - set(rows[0]):
        raise _unfit("synsets", f"structs with {', '.join(_FIELDS)}", ", ".join(rows[0]) or "none")
    found = sorted(_leaves(rows), key=lambda synset: synset.id)
    wnids: set[str] = set()
    for number, synset in enumerate(found, 1):
        if synset.id != number:
            raise _unfit("id of a class", f"each of 1 to {len(found)} once", synset.id)
        if synset.wnid in wnids:
            raise _unfit(f"class {number}", "a wnid of its own", synset.wnid)
        wnids.add(synset.wnid)
    if not found:
        raise _unfit("synsets", "some without children", "none")
    return found


def parse_ground_truth(text: str, synsets: list[Synset]) -> list[str]:
    """Return the wnid of each validation image, image 1 first.

    Raises:
        LabelError: A line is not the id of a class.
    """
    lines = text.split("\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    wnids = []
    for number, line in enumerate(lines, 1):
        word = line.removesuffix("\r")
        at = int(word) if _NUMBER.fullmatch(word) else 0
        if not 1 <= at <= len(synsets):
            raise LabelError(
                f"{GROUND_TRUTH} line {number}",
                expected=f"a number from 1 to {len(synsets)}",
                found=repr(word[:80]),
                remedy=_AGAIN,
            )
        wnids.append(synsets[at - 1].wnid)
    return wnids


def _leaves(rows: list[dict[str, Value]]) -> Iterator[Synset]:
    for number, row in enumerate(rows, 1):
        at, name, words, children = (row[field] for field in _FIELDS)
        if _number(children, f"num_children of synset {number}"):
            continue
        wnid = _text(name, f"WNID of synset {number}")
        if not WNID.fullmatch(wnid):
            raise _unfit(f"WNID of synset {number}", "a wnid", repr(wnid[:80]))
        names = _text(words, f"words of synset {number}")
        yield Synset(_number(at, f"id of synset {number}"), wnid, names)


def _number(value: Value, what: str) -> int:
    # MATLAB's numbers are doubles unless somebody asked for integers.
    if isinstance(value, (int, float)) and value == value // 1:
        return int(value)
    raise _unfit(what, "a whole number", f"{value!r:.80}")


def _text(value: Value, what: str) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise _unfit(what, "a line of text", f"{value!r:.80}")


def _unfit(what: str, expected: object, found: object) -> LabelError:
    return LabelError(f"{META}: {what}", expected=expected, found=found, remedy=_AGAIN)

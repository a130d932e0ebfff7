"""Read the development kit of ILSVRC2012: its classes, and the class of each validation image.

Source: the kit's own ``readme.txt``. ``data/meta.mat`` holds an array of structs, ``synsets``: the
classes of the challenge first, with ids from 1 and no children, then the synsets above them. Line n
of ``data/ILSVRC2012_validation_ground_truth.txt`` is the id of validation image n. Ids do not
follow the order of the wnids.

SciPy reads MAT files, and a damaged one can crash it (segmentation fault, SciPy 1.17). So it works
in a process of its own, ``python -m imagenet_etl.labels.devkit``, with bounds on memory and time.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import LabelError

META = "data/meta.mat"
GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_NUMBER = re.compile(r"[0-9]{1,9}")
_FIELDS = ("ILSVRC2012_ID", "WNID", "words", "num_children")
_MAX_SYNSETS = 200_000
"""More than WordNet has."""
_MAX_MEMORY_BYTES, _MAX_SECONDS = 4 << 30, 120
_MAT = "a MAT file with synsets"
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
    return classes_of(_read_apart(data))


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


def _read_apart(data: bytes) -> dict[str, Any]:
    """Return what ``read_mat`` does, called in a process that may crash."""
    path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    changed = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "imagenet_etl.labels.devkit"],
            input=data,
            capture_output=True,
            env=os.environ | changed,
            timeout=_MAX_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise _unfit("content", _MAT, f"what cannot be read in {_MAX_SECONDS} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        found = f"a reader that ended with code {done.returncode}" + (f": {said}" if said else "")
        raise _unfit("content", _MAT, found)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def classes_of(answer: dict[str, Any]) -> list[Synset]:
    """Return the classes that ``read_mat`` found, in the order of their ids.

    Raises:
        LabelError: As ``parse_meta`` does.
    """
    if "error" in answer:
        raise _unfit("content", _MAT, answer["error"])
    if set(_FIELDS) - set(answer["fields"]):
        raise _unfit("synsets", f"structs with {', '.join(_FIELDS)}", answer["fields"])
    found = sorted(_leaves(answer["rows"]), key=lambda synset: synset.id)
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


def _leaves(rows: list[list[Any]]) -> Iterator[Synset]:
    for number, (at, name, words, children) in enumerate(rows, 1):
        if _number(children, f"num_children of synset {number}"):
            continue
        wnid = _text(name, f"WNID of synset {number}")
        if not WNID.fullmatch(wnid):
            raise _unfit(f"WNID of synset {number}", "a wnid", repr(wnid[:80]))
        names = _text(words, f"words of synset {number}")
        yield Synset(_number(at, f"id of synset {number}"), wnid, names)


def _number(value: Any, what: str) -> int:
    # MATLAB's numbers are doubles unless somebody asked for integers.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise _unfit(what, "a whole number", f"{value!r:.80}")


def _text(value: Any, what: str) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise _unfit(what, "a line of text", f"{value!r:.80}")


def _unfit(what: str, expected: object, found: object) -> LabelError:
    return LabelError(f"{META}: {what}", expected=expected, found=found, remedy=_AGAIN)


def read_mat(data: bytes) -> dict[str, Any]:
    """Return ``fields`` and ``rows`` of ``synsets``, or an ``error``; a hostile file may crash it.

    A row has the values of ``_FIELDS``, None for what is no number and no text.
    """
    from scipy.io import loadmat, whosmat  # noqa: PLC0415 - slow to import

    try:
        shapes = {name: shape for name, shape, _ in whosmat(io.BytesIO(data))}
        count = 1
        for length in shapes.get("synsets", (0,)):
            count *= length
        if not 0 < count <= _MAX_SYNSETS:
            return {"error": f"{count} synsets"}
        loaded = loadmat(io.BytesIO(data), variable_names=["synsets"], squeeze_me=True)
        # A single one has been squeezed to no dimension at all.
        synsets = loaded["synsets"].reshape(-1)
        fields = synsets.dtype.names or ()
        rows = [[_plain(row[name]) for name in _FIELDS if name in fields] for row in synsets]
    except Exception as error:  # noqa: BLE001 - a damaged file fails at any point of SciPy's reader
        return {"error": (str(error) or type(error).__name__)[:200]}
    return {"fields": fields, "rows": rows}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else None


def _main() -> None:
    bounds = {resource.RLIMIT_AS: _MAX_MEMORY_BYTES, resource.RLIMIT_CORE: 0}
    for kind, bound in bounds.items():
        with suppress(OSError, ValueError):  # not every system has each of them
            resource.setrlimit(kind, (bound, bound))
    sys.stdout.write(json.dumps(read_mat(sys.stdin.buffer.read())))


if __name__ == "__main__":
    _main()

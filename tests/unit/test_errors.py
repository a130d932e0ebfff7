"""The error tree: drawn as it is, told in one line, whole across process boundaries."""

from __future__ import annotations

import json
import pickle
import re

import pytest

from imagenet_etl import errors
from imagenet_etl.errors import EtlError, TerminalError, TransientError


def tree_of(root: type[EtlError]) -> list[type[EtlError]]:
    return [root] + [found for child in root.__subclasses__() for found in tree_of(child)]


OURS = [kind for kind in tree_of(EtlError) if kind.__module__ == errors.__name__]


def drawn_parents() -> dict[str, str]:
    """Return each class of the docstring's drawing with its parent."""
    parents: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([ │├└─]*)(\w+)(?:  .*)?", line)
        if not match:
            continue
        depth, name = len(match[1]) // 4, match[2]
        above[depth] = name
        if depth:
            parents[name] = above[depth - 1]
    return parents


def test_the_drawn_tree_is_the_real_one():
    assert drawn_parents() == {
        kind.__name__: kind.__bases__[0].__name__ for kind in OURS if kind is not EtlError
    }


def test_every_error_is_either_terminal_or_transient():
    for kind in OURS:
        if kind not in (EtlError, TerminalError, TransientError):
            assert issubclass(kind, TerminalError) != issubclass(kind, TransientError), kind


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_error_survives_json_and_pickle(kind):
    error = kind("what", expected=3, found="two", remedy="Do this")
    for copy in (
        EtlError.from_dict(json.loads(json.dumps(error.to_dict()))),
        pickle.loads(pickle.dumps(error)),
    ):
        assert type(copy) is kind
        assert str(copy) == "what: expected 3, found two. Do this"


def test_an_error_of_an_unknown_type_is_terminal():
    error = EtlError.from_dict({"type": "FromTheFuture", "what": "x", "expected": "", "found": ""})
    assert type(error) is TerminalError


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "what"),
        ({"found": 0}, "what: found 0"),
        ({"expected": 1}, "what: expected 1"),
        ({"expected": 1, "found": 2}, "what: expected 1, found 2"),
        ({"remedy": "Do this"}, "what. Do this"),
    ],
)
def test_an_error_tells_only_what_it_knows(fields, text):
    assert str(EtlError("what", **fields)) == text


def test_a_hostile_name_stays_on_one_line_of_the_log():
    text = str(EtlError("member 'a\nERROR forged\x1b[31m\r\u202e'", found="b\0c"))
    assert text.isprintable()
    assert "\\nERROR forged\\x1b[31m\\r\\u202e" in text
    assert "b\\x00c" in text

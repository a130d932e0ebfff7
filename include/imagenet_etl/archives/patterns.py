"""Match a dataset's patterns against many names at once, with RE2 (by Arrow) in place of ``re``."""

from __future__ import annotations

import re
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

_GROUP = re.compile(r"\(\?P<(\w+)>([^()]*)\)")
_BACK_REFERENCE = re.compile(r"\(\?P=(\w+)\)")
_AGAIN = "_again"


def matches(names: pa.Array | pa.ChunkedArray, pattern: re.Pattern[str]) -> pa.StructArray:
    """Match whole names.

    Returns:
        A struct for each name with the text of each named group, null where the name does not
        match. A group that took no part is an empty text.
    """
    text, repeated = _as_re2(pattern)
    if isinstance(names, pa.ChunkedArray):
        names = names.combine_chunks()
    found = pc.extract_regex(names, text)
    groups = dict(zip(found.type.names, found.flatten(), strict=True))
    misses = found.is_null()
    # RE2 has no back-references: the group is matched twice, and the two texts are compared here.
    for name in repeated:
        differs = pc.not_equal(groups[name], groups.pop(name + _AGAIN))
        misses = pc.or_(misses, pc.fill_null(differs, True))
    return pa.StructArray.from_arrays(groups.values(), names=list(groups), mask=misses)


@cache
def _as_re2(pattern: re.Pattern[str]) -> tuple[str, tuple[str, ...]]:
    """Return the pattern as RE2 takes it, and the groups that must be found twice."""
    bodies = dict(_GROUP.findall(pattern.pattern))
    repeated: list[str] = []

    def again(reference: re.Match[str]) -> str:
        name = reference[1]
        if name not in bodies or name in repeated:
            raise ValueError(f"{pattern.pattern!r}: (?P={name}) needs a plain group, once")
        repeated.append(name)
        return f"(?P<{name}{_AGAIN}>{bodies[name]})"

    text = _BACK_REFERENCE.sub(again, pattern.pattern)
    return rf"\A(?:{text})\z", tuple(repeated)


def is_match(names: pa.Array | pa.ChunkedArray, pattern: re.Pattern[str]) -> pa.Array:
    """Return for each name whether the whole of it matches."""
    return pc.match_substring_regex(names, rf"\A(?:{pattern.pattern})\z")

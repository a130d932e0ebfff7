"""Matching by the million gives what matching by ``re`` gives."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.archives.patterns import matches
from imagenet_etl.datasets import DATASETS

PATTERNS = [
    pattern
    for facts in DATASETS.values()
    for pattern in (
        *facts.layout.images.values(),
        facts.layout.side_files,
        facts.layout.class_tars,
    )
    if pattern is not None
]


def expected(name, pattern):
    match = pattern.fullmatch(name)
    return {k: v or "" for k, v in match.groupdict().items()} if match else None


def near(pattern):
    """Names that match, and such with a character changed, dropped or put in."""

    def changed(name, at, extra):
        at %= len(name) + 1
        return name[:at] + extra + name[at + 1 :]

    right = st.from_regex(pattern, fullmatch=True)
    extra = st.one_of(st.just(""), st.sampled_from("\n/_.0n1\u0661A"))
    return right | st.builds(changed, right, st.integers(0, 200), extra)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.pattern[:40])
@given(data=st.data())
def test_the_same_names_match_with_the_same_groups(pattern, data):
    names = data.draw(st.lists(near(pattern), min_size=1, max_size=9))
    assert matches(pa.array(names), pattern).to_pylist() == [expected(n, pattern) for n in names]


def test_a_group_that_differs_from_its_back_reference_is_no_match():
    pattern = re.compile(r"(?P<wnid>n[0-9])/(?P<file>(?P=wnid)_[0-9]\.JPEG)")
    found = matches(pa.array(["n1/n1_0.JPEG", "n1/n2_0.JPEG"]), pattern)
    assert found.to_pylist() == [{"wnid": "n1", "file": "n1_0.JPEG"}, None]


@pytest.mark.parametrize(
    "text", [r"(?P<a>(x)y)(?P=a)", r"(?P<a>x)(?P=a)(?P=a)"], ids=["nested", "twice"]
)
def test_patterns_beyond_re2_are_refused(text):
    with pytest.raises(ValueError, match="needs a plain group, once"):
        matches(pa.array(["x"]), re.compile(text))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.pattern[:40])
@given(data=st.data())
def test_no_layout_accepts_a_name_that_leaves_its_folder(pattern, data):
    name = data.draw(st.from_regex(pattern, fullmatch=True))
    assert name.isascii()
    assert name.isprintable()
    assert "\\" not in name
    assert not {"", ".", ".."} & set(name.split("/"))

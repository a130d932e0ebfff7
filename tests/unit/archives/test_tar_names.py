"""FAULTS 11, 13 and 14 for tars: names that escape, are taken twice, or are no names."""

import pytest
from tests.support.archives import listed
from tests.support.tars import Entry, class_tar, long_name, pax, raw_tar

from imagenet_etl.errors import UnexpectedMember, UnsafeMember

A, B = Entry(b"a", b"x" * 700), Entry(b"b", b"y" * 100)

NAMES = [
    b"../canary", b"a/../../canary", b"..", b".", b"", b"/tmp/canary", b"a//b", b"a/./b", b"a/",
    b"a\\b", b"C:evil", b"a\nb", b"a\x1b[2Jb", b"a\x7fb", "a\u202eb".encode(), "a\u2028b".encode(),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_escape_or_forge_log_lines_are_refused(refused, name):
    assert "a member's name is unsafe" in refused(raw_tar([A, Entry(name)]), UnsafeMember)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [long_name, lambda name: pax({"path": name})])
def test_long_names_are_as_little_trusted(refused, name, make):
    assert "a member's name is unsafe" in refused(
        raw_tar([make(name), Entry(b"short")]), UnsafeMember
    )


@pytest.mark.parametrize("name", [b"../evil/", b"/evil/", b"a\nb/", b"./../"])
def test_folders_with_unsafe_names_are_refused(refused, name):
    refused(raw_tar([Entry(name, b"", b"5")]), UnsafeMember)


@pytest.mark.parametrize("entries", [
    [Entry(b"\xff\xfe")], [long_name(b"\xff\xfe"), Entry(b"a")],
    [pax({"path": b"\xff\xfe"}), Entry(b"a")],
    [pax({"hdrcharset": "BINARY"}), Entry(b"a")],
])  # fmt: skip
def test_names_that_are_not_text_are_refused(refused, entries):
    assert "name is not text" in refused(raw_tar([A, *entries]), UnsafeMember)


# --- 13: duplicates ---


@pytest.mark.parametrize("second", [b"dir/name", b"DIR/Name"])
def test_duplicates_and_case_collisions_name_both_offsets(refused, second):
    message = refused(raw_tar([Entry(b"dir/name", b"x" * 700), B, Entry(second)]), UnexpectedMember)
    name = second.decode()
    assert f"x.tar: {name} appears twice: found headers at bytes 0 and 2560" in message


@pytest.mark.parametrize("names", [("ß", "SS"), ("Ä", "ä"), ("\u017f", "s")])
def test_case_collisions_beyond_ascii_are_noticed(refused, names):
    message = refused(raw_tar(Entry(name.encode()) for name in names), UnexpectedMember)
    assert "appears twice: found headers at bytes 0 and 1024" in message


def test_duplicates_in_a_class_tar_name_it_and_the_places_in_the_outer_file(refused):
    inner = raw_tar([A, B, Entry(b"A", b"x" * 700)])
    message = refused(raw_tar([B, Entry(b"n1.tar", inner)]), UnexpectedMember)
    assert "x.tar: n1.tar/A appears twice" in message
    assert "headers at bytes 1536 and 4096" in message


def test_two_class_tars_of_one_name_are_refused(refused):
    entries = [class_tar("n1", {"a": b"1"}), class_tar("n1", {"b": b"2"})]
    assert "n1.tar appears twice: found headers at bytes 0 and 2560" in refused(
        raw_tar(entries), UnexpectedMember
    )


def test_equal_names_in_two_class_tars_are_no_duplicates(tar):
    entries = [class_tar("n1", {"a": b"1"}), class_tar("n2", {"a": b"2"})]
    assert [member.name for member in listed(tar(raw_tar(entries)))] == ["n1.tar/a", "n2.tar/a"]


# --- 14: over-long names ---


@pytest.mark.parametrize("make", [long_name, lambda name: pax({"path": name})])
def test_over_long_names_are_refused(refused, make):
    message = refused(raw_tar([A, make(b"n" * 5000), Entry(b"short")]), UnsafeMember)
    assert "too l" in message
    assert "byte 1536" in message


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_an_extended_header_of_a_gigabyte_is_refused_unread(refused, kind):
    message = refused(raw_tar([Entry(b"x", b"", kind, size=b"%011o\0" % (1 << 30))]), UnsafeMember)
    assert "x.tar: the extended header at byte 0 is too large: expected at most" in message
    assert "found 1,073,741,824" in message

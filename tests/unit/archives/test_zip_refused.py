"""FAULTS 9 and 11 to 15 for zips: what is refused."""

import stat
import struct
import zlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support import archives
from tests.support.archives import Entry, raw_zip
from tests.support.zips import MEMBERS, contents, on_disk, zip64_directory, zipped

from imagenet_etl.archives.member import DEFLATED, STORED
from imagenet_etl.archives.zip import list_zip, read_zip_member
from imagenet_etl.datasets import TINY_IMAGENET
from imagenet_etl.errors import (
    ArchiveError,
    BadArchive,
    BadImage,
    UnexpectedMember,
    UnsafeMember,
)


def test_every_truncation_of_a_zip_is_refused(tmp_path):
    data = zipped({"a/1.JPEG": b"first" * 9, "b": b"second"})
    for length in range(len(data)):
        with pytest.raises(BadArchive) as caught:
            contents(tmp_path, data[:length])
        assert "x.zip" in str(caught.value)


def test_every_zip_that_lost_its_beginning_is_refused(tmp_path):
    data = zipped({"a/1.JPEG": b"first" * 9, "b": b"second"})
    for length in range(1, len(data)):
        with pytest.raises(BadArchive):
            contents(tmp_path, data[length:])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 10_000), value=st.binary(min_size=1, max_size=8))
@example(at=0, value=b"")
def test_overwritten_bytes_never_raise_anything_untyped(tmp_path, at, value):
    data = bytearray(zipped())
    at %= len(data)
    data[at : at + len(value)] = value
    try:
        found = contents(tmp_path, bytes(data))
    except (ArchiveError, BadImage):
        return
    # Names, dates and attributes may read otherwise; content has its CRC-32.
    assert list(found.values()) == list(MEMBERS.values()) or len(found) < len(MEMBERS)


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK], ids=oct
)
def test_links_and_devices_are_refused_and_create_nothing(tmp_path, kind):
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    entries = [Entry(b"evil", str(canary).encode(), mode=kind | 0o777), Entry(b"evil/x", b"pwned")]
    with pytest.raises(UnsafeMember, match="evil is not a regular file"):
        contents(tmp_path, raw_zip(entries))
    assert canary.read_text() == "untouched"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "x.zip"]


@pytest.mark.parametrize(
    "name",
    [
        b"/etc/passwd", b"../x", b"a/../../x", b"a/..", b"..", b"./x", b"a//x", b"", b"C:/x",
        b"a\\..\\x", b"a\nb", b"a\rb", b"a\0b", b"a\x1b[31mb", b"../", b"a/../", b"/",
        "a\u202eb".encode(), "a\u2028b".encode(),
    ],
)  # fmt: skip
def test_names_that_escape_or_forge_log_lines_are_refused(tmp_path, name):
    with pytest.raises(UnsafeMember) as caught:
        contents(tmp_path, raw_zip([Entry(name, flags=0x800)]))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("flags", [0, 0x800])
def test_names_that_are_not_text_are_refused(tmp_path, flags):
    with pytest.raises(UnsafeMember, match="not text"):
        contents(tmp_path, raw_zip([Entry(b"n\xe9\xff.JPEG", flags=flags)]))


@pytest.mark.parametrize("second", [b"a/x.JPEG", b"A/X.jpeg"])
def test_duplicates_and_case_collisions_name_both_offsets(tmp_path, second):
    data = raw_zip([Entry(b"a/x.JPEG", b"1"), Entry(b"other", b"2"), Entry(second, b"3")])
    third = data.index(second, data.index(b"other")) - 30
    with pytest.raises(UnexpectedMember) as caught:
        contents(tmp_path, data)
    assert f"{second.decode()} appears twice: found headers at bytes 0 and {third}" in str(
        caught.value
    )


def test_one_header_that_the_directory_lists_twice_is_refused(tmp_path):
    once = raw_zip([Entry(b"x", b"1" * 200)])
    at = once.index(b"PK\1\2")
    entry = once[at:-22]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, 2 * len(entry), at, 0)
    with pytest.raises((UnexpectedMember, UnsafeMember), match=r"x (appears twice|lies on top)"):
        contents(tmp_path, once[:at] + entry * 2 + end)


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """A bomb that quotes headers inside other members' data, so that all inflate the same bytes."""
    payload = b"x" * 1000
    inner = b"PK\3\4" + struct.pack(
        "<5H3L2H", 20, 0, 0, 0, 0x4821, zlib.crc32(payload), 1000, 1000, 1, 0
    )
    outer = Entry(b"a", inner + b"b" + payload)
    data = raw_zip([outer])
    at = data.index(b"PK\1\2")
    second = bytearray(raw_zip([Entry(b"b", payload)]))
    second = second[second.index(b"PK\1\2") : -22]
    struct.pack_into("<L", second, 42, 31)
    directory = data[at:-22] + second
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), at, 0)
    with pytest.raises(UnsafeMember, match="b lies on top of another member"):
        contents(tmp_path, data[:at] + directory + end)


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_encrypted_members_are_refused(tmp_path, flag):
    with pytest.raises(UnsafeMember, match=r"secret: .*found encryption"):
        contents(tmp_path, raw_zip([Entry(b"secret", flags=flag)]))


@pytest.mark.parametrize("method", [1, 9, 12, 14, 93, 99])
def test_unknown_methods_are_refused(tmp_path, method):
    with pytest.raises(UnsafeMember, match=f"odd: .*compression method {method}"):
        contents(tmp_path, raw_zip([Entry(b"odd", method=method)]))


def test_a_bomb_with_a_small_declared_size_is_stopped_at_that_size(tmp_path):
    bomb = Entry(b"bomb", bytes(50 << 20), method=DEFLATED, size=100)
    data = raw_zip([bomb])
    assert len(data) < 1 << 20
    import tracemalloc

    with on_disk(tmp_path, data) as file:
        member = next(list_zip(file, "x.zip"))
        tracemalloc.start()
        with pytest.raises(BadImage, match="more than the 100 bytes"):
            read_zip_member(file, member, "x.zip")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_member_declared_too_large_is_refused_before_it_is_read(tmp_path):
    limit = TINY_IMAGENET.layout.max_member_bytes
    bomb = Entry(b"bomb", b"", method=DEFLATED, size=limit + 1)
    with pytest.raises(UnsafeMember, match=f"bomb is too large: .* found {limit + 1:,}"):
        contents(tmp_path, raw_zip([bomb]))


def test_too_many_members_are_refused(tmp_path):
    from dataclasses import replace

    facts = replace(archives.ANYTHING, layout=replace(archives.ANYTHING.layout, max_members=3))
    path = tmp_path / "x.zip"
    path.write_bytes(raw_zip(Entry(b"%d" % n) for n in range(4)))
    with pytest.raises(UnsafeMember, match="too many members"):
        archives.listed(path, facts)


@pytest.mark.parametrize("offset", [1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_zip64_offset_beyond_the_file_is_refused(tmp_path, offset):
    with pytest.raises(BadArchive, match="header of far"):
        contents(tmp_path, raw_zip([Entry(b"far", zip64_offset=offset)]))


@pytest.mark.parametrize("position", [1 << 40, 1 << 63, (1 << 64) - 1])
def test_a_zip64_end_record_beyond_the_file_is_refused(tmp_path, monkeypatch, position):
    data = bytearray(zip64_directory(monkeypatch))
    struct.pack_into("<Q", data, data.rindex(b"PK\6\7") + 8, position)
    data[data.rindex(b"PK\6\6")] = 0
    with pytest.raises(BadArchive, match="zip64 end record is broken"):
        contents(tmp_path, bytes(data))


def test_a_header_with_another_name_than_the_directory_is_refused(tmp_path):
    with pytest.raises(BadArchive, match="header of good at byte 0 contradicts"):
        contents(tmp_path, raw_zip([Entry(b"good", local_name=b"evil")]))


def test_a_member_that_runs_into_the_directory_is_refused(tmp_path):
    data = bytearray(raw_zip([Entry(b"long", b"abc" * 50, DEFLATED), Entry(b"b", bytes(500))]))
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 20, 600)
    with pytest.raises(BadArchive, match="truncated inside long: expected 600 bytes from byte 34"):
        contents(tmp_path, bytes(data))


def test_a_part_of_a_split_archive_is_refused(tmp_path):
    data = bytearray(zipped())
    struct.pack_into("<2H", data, len(data) - 18, 1, 1)
    with pytest.raises(BadArchive, match="one part of several"):
        contents(tmp_path, bytes(data))


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_damaged_content_condemns_the_one_image(tmp_path, method):
    data = bytearray(raw_zip([Entry(b"bad", b"abc" * 500, method), Entry(b"good", b"fine")]))
    data[45] ^= 0x10
    with on_disk(tmp_path, data) as file:
        bad, good = list_zip(file, "x.zip")
        with pytest.raises(BadImage, match=r"CRC-32|inflate|bytes"):
            read_zip_member(file, bad, "x.zip")
        assert read_zip_member(file, good, "x.zip") == b"fine"

"""FAULTS 9 to 12 and 15 for tars: what is refused, and that the error says where."""

import bz2
import gzip
import lzma

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.archives import listed
from tests.support.tars import END, GNU, V7, Entry, class_tar, long_name, pax, raw_tar

from imagenet_etl.errors import ArchiveError, BadArchive, UnsafeMember

A, B = Entry(b"a", b"x" * 700), Entry(b"b", b"y" * 100)
# Headers at 0 and 1536, end blocks at 2560, the end at 3584.
PLAIN = raw_tar([A, B])
INNER = raw_tar([A, B])


# --- 9: truncated ---


@pytest.mark.parametrize(
    ("size", "where"),
    [
        (600, "inside a, which has 700 bytes from byte 512 on"),
        (2100, "inside b, which has 100 bytes from byte 2048 on"),
        (1536, "at byte 1536, where its end blocks should follow"),
        (2560, "at byte 2560, where its end blocks should follow"),
        (1700, "inside the header at byte 1536"),
        (2561, "inside the header at byte 2560"),
        (3072, "between its two end blocks, at byte 2560"),
        (3583, "between its two end blocks, at byte 2560"),
    ],
)
def test_a_truncated_tar_is_refused_wherever_it_is_cut(refused, size, where):
    message = refused(PLAIN[:size], BadArchive)
    assert f"x.tar is truncated {where}: found its end at byte {size}" in message


def test_truncation_anywhere_is_refused(tar):
    for size in range(0, len(PLAIN), 7):
        with pytest.raises(BadArchive):
            listed(tar(PLAIN[:size]))


def test_bytes_after_the_end_blocks_are_refused(refused):
    message = refused(PLAIN + bytes(700) + b"more" + bytes(4 << 20), BadArchive)
    assert "x.tar goes on after the end blocks at byte 2560: found b'more" in message
    assert "at byte 4284" in message


def test_a_second_tar_behind_the_first_is_refused(refused):
    assert "goes on after the end blocks" in refused(PLAIN + PLAIN, BadArchive)


# --- 10: class tars ---


@pytest.mark.parametrize("size", range(0, len(INNER), 256))
def test_a_truncated_class_tar_is_refused_and_named(refused, size):
    outer = raw_tar([class_tar("n1", {"a": b"1"}), Entry(b"n2.tar", INNER[:size])])
    message = refused(outer, BadArchive)
    # n1.tar with its header takes 512 + 2048 bytes, the header of n2.tar another 512.
    assert message.startswith("x.tar: n2.tar is truncated")
    assert f"its end at byte {3072 + size}" in message


def test_a_damaged_header_in_a_class_tar_is_named_with_its_place_in_the_outer_file(refused):
    data = bytearray(raw_tar([Entry(b"n1.tar", INNER)]))
    data[512 + 1536] ^= 1
    message = refused(bytes(data), BadArchive)
    assert "x.tar: n1.tar: the header at byte 2048 is damaged: expected checksum" in message


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tars_are_refused_and_told_as_such(refused, pack):
    advice = "cannot be read in place. Decompress it first, and give the tar"
    if pack is not gzip.compress:  # a small one of these is unpacked into memory
        assert advice in refused(pack(PLAIN * 50), BadArchive)
    nested = raw_tar([Entry(b"n1.tar", pack(bytes(range(256)) * 99).ljust(700))])
    message = refused(nested, BadArchive)
    assert message.startswith("x.tar: n1.tar is compressed")
    assert message.endswith(advice)


def test_a_class_tar_that_is_no_tar_is_refused(refused):
    message = refused(raw_tar([Entry(b"n1.tar", b"<html>" * 200)]), BadArchive)
    assert "x.tar: n1.tar: there is no tar header at byte 512: found b'<html>" in message


# --- 11 and 12: links and devices ---


@pytest.mark.parametrize(
    ("kind", "what"),
    [(b"1", "a hard link"), (b"2", "a symbolic link"), (b"3", "a character device"),
     (b"4", "a block device"), (b"6", "a fifo"), (b"S", "a sparse file"),
     (b"M", "a part of a multi-volume archive"), (b"V", "a volume label"),
     (b"7", "type b'7'"), (b"\xff", "type b'\\xff'")],
)  # fmt: skip
@pytest.mark.parametrize("magic", [b"ustar\x0000", GNU])
def test_what_is_no_regular_file_is_refused(refused, kind, what, magic):
    link = Entry(b"evil", b"", kind, link=b"/etc", magic=magic)
    message = refused(raw_tar([A, link, Entry(b"evil/file")]), UnsafeMember)
    assert f"x.tar: evil is not a regular file: found {what}, header at byte 1536" in message


@pytest.mark.parametrize("size", [b"", None])
def test_a_link_behind_long_names_is_refused(refused, size):
    entries = [long_name(b"n" * 200), long_name(b"t" * 200, b"K"), Entry(b"n", b"", b"2")]
    assert "is not a regular file" in refused(raw_tar(entries), UnsafeMember)


# --- 15: sizes and sparse files ---


def base256(size):
    return (
        (1 << 95 | size).to_bytes(12, "big") if size >= 0 else size.to_bytes(12, "big", signed=True)
    )


@pytest.mark.parametrize(
    "size", [b"77777777777\0", base256(1 << 40), base256((1 << 60) + 1), base256((1 << 63) - 1),
             base256(1 << 63), base256(1 << 90)],
)  # fmt: skip
def test_sizes_beyond_the_cap_are_refused_before_anything_is_read(refused, size):
    assert "too large" in refused(raw_tar([A, Entry(b"big", size=size)]), UnsafeMember)


def test_a_pax_size_of_8_eib_is_refused(refused):
    entries = [pax({"size": str((1 << 63) - 1)}), Entry(b"big", size=b"00000000000\0")]
    assert "big is too large" in refused(raw_tar(entries), UnsafeMember)


@pytest.mark.parametrize("size", [base256(-1), base256(-512), base256(-(1 << 63))])
def test_negative_sizes_are_refused(refused, size):
    message = refused(raw_tar([A, Entry(b"a", size=size)]), BadArchive)
    assert "the header at byte 1536 has no valid size: found -" in message


@pytest.mark.parametrize(
    "size", [b"-0000000004\0", b"+0000000004\0", b"0o000000004\0", b"00000000_04\0",
             b"00000000008\0", b"0x000000004\0", b"\t0000000004\0", bytes(12), b" " * 12,
             b"4\0004".ljust(12, b"\0")],
)  # fmt: skip
def test_sizes_that_are_no_octal_numbers_are_refused(refused, size):
    message = refused(raw_tar([A, Entry(b"a", size=size)]), BadArchive)
    assert "x.tar: the header at byte 1536 has no valid size: found b'" in message


def test_a_size_that_would_lead_back_to_an_earlier_header_ends(refused):
    refused(raw_tar([A, Entry(b"b", b"", size=base256(-2048))]), BadArchive)


@pytest.mark.parametrize(
    "records", [{"GNU.sparse.major": "1", "GNU.sparse.realsize": "8"}, {"GNU.sparse.map": "0,1"},
                {"SCHILY.realsize": "9"}],
)  # fmt: skip
def test_pax_sparse_files_are_refused(refused, records):
    message = refused(raw_tar([A, pax(records), Entry(b"GNUSparseFile.0/a")]), UnsafeMember)
    assert "the extended header at byte 1536 describes a sparse file" in message


# --- what else breaks the format ---


@pytest.mark.parametrize("key", ["path", "size", "linkpath", "GNU.sparse.size"])
def test_global_headers_that_change_every_member_are_refused(refused, key):
    assert "for all members" in refused(raw_tar([pax({key: "1"}, b"g"), A]), UnsafeMember)


def test_two_sizes_of_one_member_are_refused(refused):
    """Readers differ in which they believe, so one could hide members from another."""
    message = refused(raw_tar([pax({"size": "0"}), Entry(b"a", b"x" * 512)]), BadArchive)
    assert "the member at byte 1024 has two sizes: found 512 and 0 bytes" in message


@pytest.mark.parametrize("second", [long_name(b"b"), pax({"path": "b"})])
def test_two_long_names_of_one_member_are_refused(refused, second):
    entries = [long_name(b"a"), second, Entry(b"c")]
    assert "two long names at byte" in refused(raw_tar(entries), BadArchive)


@pytest.mark.parametrize(
    "data", [b"8 path=a\n", b"11 path=a\n", b"x path=a\n", b"10 path=a", b"5 =a\n", b"10 pathaa\n",
             b"0 path=a\n", b"-9 path=a\n", b"999999999 path=a\n"],
)  # fmt: skip
def test_broken_pax_records_are_refused(refused, data):
    message = refused(raw_tar([Entry(b"x", data, b"x"), A]), BadArchive)
    assert "the extended header at byte 0 is broken" in message


@pytest.mark.parametrize("size", ["", "-1", "1e3", "9" * 30])
def test_pax_sizes_that_are_no_numbers_are_refused(refused, size):
    assert "is broken" in refused(raw_tar([pax({"size": size}), A]), BadArchive)


@pytest.mark.parametrize("entry", [long_name(b"a"), pax({"path": "a"})])
def test_an_extended_header_that_belongs_to_nothing_is_refused(refused, entry):
    refused(raw_tar([A, entry]), BadArchive)


def test_folders_with_content_are_refused(refused):
    message = refused(raw_tar([Entry(b"a/", b"x", b"5")]), BadArchive)
    assert "the folder at byte 0 has 1 bytes" in message


@pytest.mark.parametrize("checksum", [b"000000\0 ", bytes(8), b" " * 8, b"-00001\0 "])
def test_wrong_checksums_are_refused(refused, checksum):
    message = refused(raw_tar([A, Entry(b"b", checksum=checksum)]), BadArchive)
    assert "x.tar: the header at byte 1536 is damaged: expected checksum" in message


def test_any_flipped_bit_of_a_header_is_noticed(tar):
    for bit in range(0, 512 * 8, 7):
        data = bytearray(PLAIN)
        data[1536 + bit // 8] ^= 1 << bit % 8
        with pytest.raises(ArchiveError):
            listed(tar(bytes(data)))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 5000), junk=st.binary(min_size=1, max_size=600))
def test_overwritten_bytes_never_raise_anything_untyped(tar, at, junk):
    entries = [pax({"path": "p" * 120}), A, long_name(b"l" * 120), B, Entry(b"v", magic=V7)]
    data = bytearray(raw_tar([*entries, class_tar("n1", {"a": b"1", "b": b"2"})], END))
    data[at : at + len(junk)] = junk
    try:
        listed(tar(bytes(data)))
    except ArchiveError as error:
        assert str(error).isprintable()

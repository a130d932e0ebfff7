import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.errors import RecordError
from imagenet_etl.records.recordio import (
    MAGIC,
    MAX_RECORD_BYTES,
    RecordIoWriter,
    concatenate,
    frame,
    list_line,
    pack_image,
    read_frame,
    read_index,
    unpack_image,
)

# Content made of magics, halves of them and other bytes, so that it lies on and off every boundary.
PIECE = st.one_of(
    st.just(MAGIC), st.just(MAGIC[:2]), st.just(MAGIC[2:]), st.binary(min_size=1, max_size=5)
)
CONTENT = st.lists(PIECE, max_size=12).map(b"".join)


def flags_of(data):
    """Return flag and length of each frame in a record, walked without read_frame."""
    at, found = 0, []
    while at < len(data):
        magic, word = struct.unpack_from("<4sI", data, at)
        assert magic == MAGIC
        found.append((word >> 29, word & MAX_RECORD_BYTES))
        at += 8 + (found[-1][1] + 3) // 4 * 4
    assert at == len(data)
    return found


@given(CONTENT)
def test_what_is_framed_is_read_back(data):
    framed = frame(data)
    assert len(framed) % 4 == 0
    assert read_frame(framed, 0) == (data, len(framed))


@given(CONTENT)
def test_a_reader_that_looks_for_aligned_magics_finds_only_headers(data):
    framed = frame(data)
    magics = sum(framed[at : at + 4] == MAGIC for at in range(0, len(framed), 4))
    assert magics == len(flags_of(framed))


@given(st.lists(CONTENT, min_size=1, max_size=5))
def test_records_are_read_one_after_the_other(records):
    data, at = b"".join(frame(record) for record in records), 0
    for record in records:
        found, at = read_frame(data, at)
        assert found == record
    assert at == len(data)


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"", [(0, 0)]),
        (b"abcde", [(0, 5)]),
        (MAGIC, [(1, 0), (3, 0)]),
        (MAGIC + MAGIC, [(1, 0), (2, 0), (3, 0)]),
        (b"abcd" + MAGIC, [(1, 4), (3, 0)]),
        (b"abcd" + MAGIC + b"x", [(1, 4), (3, 1)]),
        (b"abc" + MAGIC + b"x", [(0, 8)]),
        (b"abcdef" + MAGIC + b"gh" + MAGIC, [(1, 12), (3, 0)]),
        (MAGIC[:2] + MAGIC + MAGIC[2:], [(0, 8)]),
        (MAGIC[:3], [(0, 3)]),
    ],
)
def test_a_record_is_split_just_where_the_magic_is_aligned(data, frames):
    assert flags_of(frame(data)) == frames


def test_a_record_of_two_to_the_29_bytes_is_refused():
    class Long(bytes):
        def __len__(self):
            return 1 << 29

    with pytest.raises(RecordError, match="at most 536,870,911 bytes, found 536,870,912"):
        frame(Long())


@given(CONTENT)
def test_every_cut_of_a_record_is_refused(data):
    framed = frame(data)
    for length in range(len(framed)):
        with pytest.raises(RecordError):
            read_frame(framed[:length], 0)


@pytest.mark.parametrize(
    "word",
    [1 << 29, 2 << 29 | 4, 3 << 29 | 4, 4 << 29 | 4, 7 << 29 | 4, 9, MAX_RECORD_BYTES],
    ids=hex,
)
def test_a_header_with_a_wrong_flag_or_length_is_refused(word):
    with pytest.raises(RecordError):
        read_frame(MAGIC + struct.pack("<I", word) + b"abcd", 0)


@pytest.mark.parametrize("second", [0, 1, 4, 5, 6, 7])
def test_a_split_record_that_goes_on_with_the_wrong_flag_is_refused(second):
    first = MAGIC + struct.pack("<I", 1 << 29)
    with pytest.raises(RecordError, match="at byte 8 is cut off or out of order"):
        read_frame(first + MAGIC + struct.pack("<I", second << 29), 0)


@given(CONTENT, st.data())
def test_a_flipped_bit_in_a_header_is_refused_or_changes_the_result(data, draw):
    framed = bytearray(frame(data))
    bit = draw.draw(st.integers(0, 63))
    framed[bit // 8] ^= 1 << bit % 8
    try:
        found = read_frame(bytes(framed), 0)
    except RecordError:
        return
    assert found != (data, len(framed))


def test_a_position_without_a_record_is_refused():
    framed = frame(b"abcdefgh")
    for at in (1, 4, len(framed), len(framed) + 4):
        with pytest.raises(RecordError, match=f"no RecordIO magic at byte {at}"):
            read_frame(framed, at)


LABEL = st.floats(width=32, allow_nan=False)


@given(st.lists(LABEL, min_size=1, max_size=6), st.integers(0, 2**64 - 1), st.binary(max_size=9))
def test_labels_key_and_image_are_read_back(labels, key, image):
    found = unpack_image(pack_image(labels, key, image))
    assert (found.labels, found.key, found.image) == (tuple(labels), key, image)


def test_a_record_too_short_for_its_header_or_labels_is_refused():
    packed = pack_image([1, 2, 3], 0, b"")
    for length in range(len(packed)):
        with pytest.raises(RecordError, match=f"a record of {length} bytes"):
            unpack_image(packed[:length])


def test_list_lines_have_six_decimals():
    assert list_line(7, (2.0,), "n1/x.JPEG") == "7\t2.000000\tn1/x.JPEG\n"
    assert list_line(7, (0.5, 1e6), "x") == "7\t0.500000\t1000000.000000\tx\n"


@pytest.mark.parametrize("text", ["1\t2\n3\n", "1 2\n", "a\tb\n", "1\t2\t3\n", "\n", "1.0\t2\n"])
def test_a_malformed_index_is_refused_by_line(text):
    line = text.count("\n")
    with pytest.raises(RecordError, match=f"index line {line} is"):
        list(read_index(text))


def write(folder, name, records):
    with RecordIoWriter(folder, name) as writer:
        for key, image in records:
            writer.append(key, (float(key % 3),), image, f"n/{key}.JPEG")
        return [file.path for file in writer.commit()]


@pytest.mark.parametrize("cuts", [(0, 6), (1, 2), (3, 3), (2, 5), (6, 6)])
def test_joined_segments_equal_what_one_writer_makes(tmp_path, cuts):
    images = [b"abc", MAGIC, b"", b"x" * 9 + MAGIC, b"abcd" + MAGIC + b"ef", b"\0" * 100]
    records = list(enumerate(images, 10))
    bounds = [0, *cuts, len(records)]
    parts = [
        write(tmp_path, f"part{n}", records[start:stop])
        for n, (start, stop) in enumerate(pairwise(bounds))
    ]
    joined, starts = concatenate(parts, tmp_path, "joined")
    whole = write(tmp_path, "whole", records)
    assert [file.path.read_bytes() for file in joined] == [path.read_bytes() for path in whole]
    sizes = [part[0].stat().st_size for part in parts]
    assert starts == [sum(sizes[:n]) for n in range(len(parts))]


def test_a_join_that_fails_leaves_no_file(tmp_path):
    part = write(tmp_path / "parts", "part", [(0, b"abc")])
    part[1].write_text("no index\n")
    with pytest.raises(RecordError, match="index line 1"):
        concatenate([part], tmp_path / "out", "joined")
    assert not (tmp_path / "out").exists()

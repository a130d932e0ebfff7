import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.records import helpers

from imagenet_etl.errors import RecordError
from imagenet_etl.records.recordio import (
    MAGIC,
    MAX_LABEL,
    MAX_RECORD_BYTES,
    RecordIoWriter,
    frame,
    list_line,
    pack_image,
    read_frame,
    read_index,
    read_record,
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


def as_float(data):
    return struct.unpack("<f", data)[0]


# Labels, keys and images that are the magic, or hold it, on and off every boundary.
MAGIC_LABEL = as_float(MAGIC)
LABELS = st.lists(
    st.one_of(st.just(MAGIC_LABEL), LABEL), min_size=1, max_size=5
)  # fmt: skip
KEYS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1]).map(lambda at: int.from_bytes(bytes(4 * at) + MAGIC, "little")),
    st.just(int.from_bytes(MAGIC * 2, "little")),
)


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, KEYS, CONTENT), max_size=6))
def test_the_writer_frames_labels_key_and_image_with_the_magic_anywhere(records):
    with tempfile.TemporaryDirectory() as name:
        with RecordIoWriter(Path(name), "x") as writer:
            placed = [writer.append(key, labels, image, "p") for labels, key, image in records]
            rec, idx, _ = (file.path for file in writer.commit())
        data, index = rec.read_bytes(), list(read_index(idx.read_text()))
    assert data == b"".join(frame(pack_image(labels, key, image)) for labels, key, image in records)
    assert index == [(key, at.offset) for (_, key, _), at in zip(records, placed, strict=True)]
    # What a reader finds that looks for aligned magics is a header, never content.
    magics = [at for at in range(0, len(data), 4) if data[at : at + 4] == MAGIC]
    assert len(magics) == len(flags_of(data))
    at = 0
    for labels, key, image in records:
        content, at = read_frame(data, at)
        found = unpack_image(content)
        assert (found.labels, found.key, found.image) == (tuple(labels), key, image)
    assert at == len(data)


@pytest.mark.parametrize("label", [MAX_LABEL + 1, 2**31 - 1])
def test_a_label_that_a_float32_does_not_hold_is_refused(tmp_path, label):
    """Not every one beyond 2^24 is lost, but the first that is would be another class."""
    with (
        pytest.raises(RecordError, match=r"label [\d,]+ of n0+1/.* at most 16,777,216"),
        RecordIoWriter(tmp_path / "out", "x") as writer,
    ):
        writer.write(helpers.record(0, label=label))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("label", [0, 1, 999, 21_840, MAX_LABEL - 1, MAX_LABEL])
def test_a_label_comes_back_as_it_was(tmp_path, label):
    with RecordIoWriter(tmp_path, "x") as writer:
        writer.write(helpers.record(0, label=label))
        rec, _, lst = (file.path for file in writer.commit())
    assert read_record(rec.read_bytes()).label == label
    assert lst.read_text().split("\t")[1] == f"{label}.000000"


def test_a_record_with_several_labels_or_with_more_behind_it_is_refused():
    one = frame(pack_image((1.0,), 0, b"abc"))
    assert read_record(one).label == 1.0
    for data in (frame(pack_image((1.0, 2.0), 0, b"abc")), one + one, one + bytes(4)):
        with pytest.raises(RecordError, match="a record of"):
            read_record(data)


def test_a_record_that_is_too_long_leaves_nothing(tmp_path):
    class Long(bytes):
        def __len__(self):
            return (1 << 29) - 24

    with (
        pytest.raises(RecordError, match="too long"),
        RecordIoWriter(tmp_path / "out", "x") as writer,
    ):
        writer.append(0, (1.0,), Long(), "p")
    assert not (tmp_path / "out").exists()

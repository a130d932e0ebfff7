import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.records.helpers import RECORDS, record, write

from imagenet_etl.errors import RecordError
from imagenet_etl.records.webdataset import (
    END,
    WebDatasetWriter,
    read_index,
    read_record,
    sample_name,
    tar_header,
)

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=100)
NAMES = TEXT.filter(lambda name: len(name.encode()) <= 100 and not name.endswith("/"))
# All that a file name can be: odd characters, dots anywhere, any length.
STEMS = st.text(
    st.one_of(st.sampled_from("ab_-. ~\n\u2028"), st.characters(codec="utf-8")),
    min_size=1,
    max_size=120,
).filter(lambda stem: not {"/", "\0"} & set(stem))


def tarfiles_header(name, size):
    """What Python writes, with digits for the device numbers that it leaves out."""
    info = tarfile.TarInfo(name)
    info.size = size
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
    header[329:345] = b"0000000\0" * 2
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@given(NAMES, st.integers(0, 8**11 - 1))
def test_a_header_is_the_one_that_tarfile_writes(name, size):
    header = tar_header(name, size)
    assert header == tarfiles_header(name, size)
    found = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (found.name, found.size, found.isreg()) == (name, size, True)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 0), ("ü" * 51, 0), ("x", 8**11)])
def test_what_does_not_fit_a_header_is_refused(name, size):
    with pytest.raises(RecordError, match="does not fit a ustar header"):
        tar_header(name, size)


def built(folder, records):
    _, files = write(WebDatasetWriter(folder, "x"), records)
    return files[".tar"].read_bytes(), files[".idx"].read_text()


def members_of(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]


@st.composite
def many_records(draw):
    stems = draw(st.lists(STEMS, max_size=6))
    return [
        record(
            position,
            draw(st.binary(max_size=20)) * draw(st.sampled_from([0, 1, 26, 100])),
            file_name=f"{stem}.JPEG",
            label=draw(st.integers(0, 21_840)),
            suffix=draw(st.sampled_from([".jpg", ".png"])),
        )
        for position, stem in enumerate(stems)
    ]


@settings(deadline=None)
@given(many_records())
def test_tarfile_finds_all_members_in_order(records):
    with tempfile.TemporaryDirectory() as name:
        data, _ = built(Path(name), records)
    expected = []
    for one in records:
        expected.append((f"{sample_name(one)}{one.suffix}", one.data))
        expected.append((f"{sample_name(one)}.cls", b"%d" % one.label))
    assert [(member.name, content) for member, content in members_of(data)] == expected
    assert all(member.isreg() and member.mtime == 0 for member, _ in members_of(data))
    assert len(data) % 512 == 0
    assert data.endswith(END)


def index_of(data):
    """Index a tar by what DALI's documentation says: samples are neighbours of one base name."""
    samples = []
    for member, _ in members_of(data):
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if not samples or samples[-1][0] != (folder, stem):
            samples.append(((folder, stem), []))
        samples[-1][1].append(f"{suffix} {member.offset_data} {member.size} {member.name}")
    return "".join([f"v1.2 {len(samples)}\n", *(" ".join(fields) + "\n" for _, fields in samples)])


@settings(deadline=None)
@given(many_records())
def test_the_index_is_what_dalis_tool_makes_of_the_tar(records):
    with tempfile.TemporaryDirectory() as name:
        data, index = built(Path(name), records)
    assert index == index_of(data)
    assert index.isascii()
    headers = [member.offset for member, _ in members_of(data)][::2]
    assert list(read_index(index.splitlines())) == [(None, at) for at in headers]


@given(st.lists(STEMS, min_size=2, max_size=8, unique=True))
def test_no_two_samples_share_a_name(stems):
    records = [
        record(n, key=n, wnid="n00000001", file_name=f"{s}.JPEG") for n, s in enumerate(stems)
    ]
    names = [sample_name(one) for one in records]
    assert len(set(names)) == len(names)
    for name in names:
        stem = name.removeprefix("n00000001/")
        assert not set(stem) & set("./ \n")
        assert len(f"{name}.jpg".encode()) <= 100


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("n01440764_10026.JPEG", "n01440764_10026"),
        ("val_12.JPEG", "val_12"),
        ("a.b.JPEG", "a_b~7"),
        (".hidden.JPEG", "_hidden~7"),
        ("a b.JPEG", "a_b~7"),
        ("a_b~7.JPEG", "a_b_7~7"),
        ("ü.JPEG", "_~7"),
        ("x" * 64 + ".JPEG", "x" * 64),
        ("x" * 65 + ".JPEG", "x" * 48 + "~7"),
    ],
)
def test_a_sample_keeps_its_name_unless_it_is_odd(file_name, name):
    assert sample_name(record(0, key=7, wnid="n1", file_name=file_name)) == f"n1/{name}"


def test_gnu_tar_lists_and_extracts_a_shard(tmp_path):
    data, _ = built(tmp_path, RECORDS)
    listing = subprocess.run(["tar", "tf", tmp_path / "x.tar"], capture_output=True, check=True)
    assert listing.stdout.decode().splitlines() == [member.name for member, _ in members_of(data)]
    assert listing.stderr == b""
    subprocess.run(["tar", "xf", tmp_path / "x.tar", "-C", tmp_path], check=True)
    assert (tmp_path / f"{sample_name(RECORDS[0])}.jpg").read_bytes() == RECORDS[0].data


SAMPLE = b"".join(
    [tar_header("n1/a.jpg", 3), b"abc".ljust(512, b"\0"),
     tar_header("n1/a.cls", 2), b"12".ljust(512, b"\0")]
)  # fmt: skip


def test_a_sample_is_read_back():
    found = read_record(SAMPLE)
    assert (found.label, bytes(found.image), found.key) == (12.0, b"abc", None)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 514, 1023, 1024, 1500, 1536, 1537, 2047])
def test_every_cut_of_a_sample_is_refused(size):
    with pytest.raises(RecordError):
        read_record(SAMPLE[:size])


def test_what_follows_a_sample_is_refused():
    for more in (b"\0", END, SAMPLE):
        with pytest.raises(RecordError, match="not an image and its class"):
            read_record(SAMPLE + more)


@given(st.integers(0, 512 * 8 - 1), st.booleans())
def test_a_flipped_bit_in_a_header_is_refused(bit, second):
    """The checksum covers all of it, and only one way of writing a header is accepted."""
    data = bytearray(SAMPLE)
    data[second * 1024 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordError):
        read_record(bytes(data))


@pytest.mark.parametrize("label", [b"", b"x", b"-1", b"1.0", b"1\n", b" 1", "\uff12".encode()])
def test_a_class_that_is_no_number_is_refused(label):
    data = SAMPLE[:1024] + tar_header("n1/a.cls", len(label)) + label.ljust(512, b"\0")
    if not label:
        data = data[:1536]
    with pytest.raises(RecordError, match="not an image and its class"):
        read_record(data)


LINE = "jpg 512 3 n1/a.jpg cls 1536 2 n1/a.cls"


def test_an_index_is_read():
    assert list(read_index(["v1.2 0"])) == []
    assert list(read_index(["v1.2 2", LINE, LINE.replace("512", "2560")])) == [
        (None, 0), (None, 2048)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [LINE],
        ["v1.1 1", LINE],
        ["v1.2 2", LINE],
        ["v1.2 0", LINE],
        ["v1.2 1"],
        ["v1.2 1", ""],
        ["v1.2 1", LINE + " "],
        ["v1.2 1", LINE.replace("512", "-512")],
        ["v1.2 1", LINE.replace("1536", "\uff11")],
        ["v1.2 1", LINE.replace("1536", "9" * 5000)],
    ],
)
def test_a_malformed_index_is_refused(lines):
    with pytest.raises(RecordError, match="index"):
        list(read_index(lines))

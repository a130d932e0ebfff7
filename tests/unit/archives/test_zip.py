"""Zips that are accepted: what is listed, where it lies, and reading it in place."""

import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.archives import Entry, raw_zip
from tests.support.zips import MEMBERS, Pipe, contents, on_disk, zip64_directory, zipped

from imagenet_etl.archives.member import STORED
from imagenet_etl.archives.zip import list_zip
from imagenet_etl.errors import (
    BadArchive,
)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_listed_in_directory_order_and_read_in_place(tmp_path, method):
    data = zipped(method=method)
    assert list(contents(tmp_path, data).items()) == list(MEMBERS.items())
    with on_disk(tmp_path, data) as file:
        for member in list_zip(file, "x.zip"):
            assert member.method == method
            assert member.size == len(MEMBERS[member.name])
            stored = data[member.offset : member.offset + member.stored_size]
            raw = stored if method == STORED else zlib.decompress(stored, -zlib.MAX_WBITS)
            assert raw == MEMBERS[member.name]


def test_folders_are_passed_over(tmp_path):
    assert contents(tmp_path, zipped({"a/": b"", "a/b/": b"", "a/b/c": b"x"})) == {"a/b/c": b"x"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_streamed_archives_with_data_descriptors_are_read(tmp_path, method):
    data = zipped(method=method, out=Pipe())
    assert struct.unpack_from("<H", data, 6)[0] & 0x8, "the archive was meant to be streamed"
    assert contents(tmp_path, data) == MEMBERS


def test_zip64_local_headers_are_read(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in MEMBERS.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert contents(tmp_path, out.getvalue()) == MEMBERS


@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\nexit\n"])
def test_zip64_directories_are_read(tmp_path, monkeypatch, prefix):
    assert contents(tmp_path, prefix + zip64_directory(monkeypatch)) == MEMBERS


def test_a_zip64_directory_of_70000_members_is_read(tmp_path):
    data = zipped({f"{n}": b"" for n in range(70_000)}, zipfile.ZIP_STORED)
    assert b"PK\6\6" in data
    with on_disk(tmp_path, data) as file:
        names = [member.name for member in list_zip(file, "x.zip")]
    assert names == [str(n) for n in range(70_000)]


def test_a_count_that_wrapped_around_at_65536_is_understood(tmp_path):
    data = raw_zip(Entry(b"%d" % n, b"") for n in range(65_600))
    with on_disk(tmp_path, data) as file:
        assert sum(1 for _ in list_zip(file, "x.zip")) == 65_600


def test_another_number_of_entries_than_declared_is_refused(tmp_path):
    with pytest.raises(BadArchive, match="expected 3, found 2"):
        contents(tmp_path, raw_zip([Entry(b"a"), Entry(b"b")], count=3))


@pytest.mark.parametrize(
    "comment", [b"hello", bytes(0xFFFF), b"PK\5\6" + bytes(30), zipped()[:-22]], ids=range(4)
)
def test_comments_are_passed_over_even_with_an_end_record_inside(tmp_path, comment):
    out = io.BytesIO(zipped())
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = comment
    assert contents(tmp_path, out.getvalue()) == MEMBERS


def test_bytes_before_the_archive_are_passed_over(tmp_path):
    assert contents(tmp_path, b"a shell script, say\n" * 9 + zipped()) == MEMBERS


def test_offsets_that_count_the_bytes_before_the_archive_are_understood(tmp_path):
    out = io.BytesIO(b"a shell script, say\n")
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "a") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    assert contents(tmp_path, out.getvalue()) == MEMBERS


def test_bytes_after_the_archive_are_refused(tmp_path):
    with pytest.raises(BadArchive, match="no zip end record"):
        contents(tmp_path, zipped() + b"\n")


NAME = st.text("abcäß0_.-", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))
PATH = st.lists(NAME, min_size=1, max_size=3).map("/".join)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    members=st.dictionaries(PATH, st.binary(max_size=300), max_size=6),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    prefix=st.binary(max_size=40),
    comment=st.binary(max_size=40),
    streamed=st.booleans(),
)
def test_any_archive_of_the_standard_library_gives_the_same_bytes(
    tmp_path, members, method, prefix, comment, streamed
):
    if len({name.casefold() for name in members}) < len(members):
        return
    out = Pipe() if streamed else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    assert contents(tmp_path, prefix + out.getvalue()) == members

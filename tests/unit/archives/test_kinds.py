"""An archive's kind is found by looking at it."""

import bz2
import gzip

import pytest
from tests.support.archives import Entry as ZipEntry
from tests.support.archives import raw_zip
from tests.support.tars import END, GNU, V7, Entry, raw_tar

from imagenet_etl.archives import kinds
from imagenet_etl.archives.kinds import kind_of
from imagenet_etl.errors import BadArchive
from imagenet_etl.storage import open_local

ZIP = raw_zip([ZipEntry(b"a")])


def kind(tmp_path, data):
    path = tmp_path / "named.wrongly"
    path.write_bytes(data)
    with open_local(path) as file:
        return kind_of(file, "my archive")


@pytest.mark.parametrize(
    "data", [ZIP, b"#!/bin/sh\n" + ZIP, raw_zip([]), ZIP[:20], b"(\xb5/\xfd" + ZIP]
)
def test_zips(tmp_path, data):
    assert kind(tmp_path, data) == "zip"


@pytest.mark.parametrize(
    "data",
    [raw_tar([Entry(b"a")]), raw_tar([Entry(b"a", magic=GNU)]), raw_tar([Entry(b"a", magic=V7)]),
     raw_tar([Entry(b"PK\3\4")]), END, raw_tar([Entry(b"a", checksum=b"damaged ")]),
     raw_tar([Entry(b"zipped", ZIP)]) ],
)  # fmt: skip
def test_tars(tmp_path, data):
    assert kind(tmp_path, data) == "tar"


@pytest.mark.parametrize("data", [b"", b"x", b"<html>" * 200, bytes(range(256)) * 4, bytes(100)])
def test_neither(tmp_path, data):
    with pytest.raises(BadArchive, match="my archive is no archive that can be read in place"):
        kind(tmp_path, data)


@pytest.mark.parametrize("head", [b"<!DOCTYPE html>", b"\r\n <html lang='en'>", b"<!doctype HTML"])
def test_a_saved_login_page_is_told_as_such(tmp_path, head):
    with pytest.raises(BadArchive, match="an HTML page, probably the site's login page") as caught:
        kind(tmp_path, head + b"<title>Sign in</title>" * 40)
    assert str(caught.value).endswith("Log in there first. Download it again")


def test_a_tar_that_begins_with_a_pages_name_is_a_tar(tmp_path):
    assert kind(tmp_path, raw_tar([Entry(b"<html>")])) == "tar"


def test_small_gzipped_tars(tmp_path):
    assert kind(tmp_path, gzip.compress(raw_tar([Entry(b"a")]))) == "tar.gz"


@pytest.mark.parametrize("may_unpack", [False, True])
def test_large_gzipped_tars_are_a_kind_only_where_they_may_be_unpacked(
    tmp_path, monkeypatch, may_unpack
):
    monkeypatch.setattr(kinds, "MAX_PACKED_BYTES", 10)
    path = tmp_path / "large"
    path.write_bytes(gzip.compress(raw_tar([Entry(b"a")])))
    with open_local(path) as file:
        if may_unpack:
            assert kind_of(file, "my archive", may_unpack=True) == "gzip"
        else:
            with pytest.raises(BadArchive, match=r"my archive is compressed \(gzip\)"):
                kind_of(file, "my archive")


@pytest.mark.parametrize("data", [b"", b"<html>" * 200, bz2.compress(END), ZIP[:2]])
def test_nothing_else_is_accepted_for_being_unpacked(tmp_path, data):
    path = tmp_path / "other"
    path.write_bytes(data)
    with open_local(path) as file, pytest.raises(BadArchive):
        kind_of(file, "my archive", may_unpack=True)


def test_otherwise_compressed(tmp_path):
    with pytest.raises(BadArchive, match=r"my archive is compressed \(bzip2\) and cannot be read"):
        kind(tmp_path, bz2.compress(raw_tar([Entry(b"a")])))

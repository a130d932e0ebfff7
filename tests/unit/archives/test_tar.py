"""Tars that are accepted: what is listed, where it lies, and reading it in place."""

import io
import random
import tarfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.archives import ANYTHING, contents, listed
from tests.support.tars import (
    BLOCK,
    END,
    GNU,
    V7,
    Entry,
    class_tar,
    long_name,
    pax,
    raw_tar,
)

from imagenet_etl.archives.listing import BATCH_MEMBERS, MEMBERS
from imagenet_etl.archives.tar import list_tar
from imagenet_etl.errors import BadArchive
from imagenet_etl.storage import Stat, open_local

MEMBERS_OF = {"a/1.JPEG": b"first" * 400, "a/2.JPEG": b"", "wnids.txt": bytes(range(256)) * 9}
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def packed(members, form=tarfile.GNU_FORMAT, **options):
    """Return what the standard library makes of these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_members_are_listed_in_order_and_read_in_place(tar, form):
    path = tar(packed(MEMBERS_OF, form))
    assert list(contents(path).items()) == list(MEMBERS_OF.items())
    data = path.read_bytes()
    for member in listed(path):
        head = data[member.header_offset : member.offset]
        assert len(head) == BLOCK
        assert member.check == zlib.crc32(head)
        assert data[member.offset :].startswith(MEMBERS_OF[member.name])
        assert member.stored_size == member.size == len(MEMBERS_OF[member.name])


def test_an_empty_tar_has_no_members(tar):
    assert listed(tar(END)) == []


@pytest.mark.parametrize("form", FORMATS)
def test_members_of_class_tars_are_named_after_them_and_located_in_the_outer_file(tar, form):
    inner = {f"n{k}.tar": packed({f"{k}_{n}.JPEG": b"%d" % n * n for n in range(9)}, form)
             for k in range(3)}  # fmt: skip
    path = tar(packed(inner, form))
    found = contents(path)
    assert found == {f"n{k}.tar/{k}_{n}.JPEG": b"%d" % n * n for k in range(3) for n in range(9)}
    data = path.read_bytes()
    assert all(data[m.offset :].startswith(found[m.name]) for m in listed(path))


def test_a_class_tar_is_not_opened_twice_over(tar):
    """Only the outer tar's members may be tars; what looks like one inside is a file."""
    path = tar(raw_tar([class_tar("n1", {"deep.tar": raw_tar([Entry(b"a")])})]))
    assert [member.name for member in listed(path)] == ["n1.tar/deep.tar"]


def test_folders_are_passed_over(tar):
    entries = [Entry(b"./", b"", b"5"), Entry(b"a/", b"", b"5"), Entry(b"a/b"),
               Entry(b"old/", b"", b"\0", magic=V7)]  # fmt: skip
    assert list(contents(tar(raw_tar(entries)))) == ["a/b"]


def test_the_dot_that_tar_puts_before_names_is_dropped(tar):
    assert list(contents(tar(raw_tar([Entry(b"./a/b"), Entry(b"./c")])))) == ["a/b", "c"]


@pytest.mark.parametrize("magic", [GNU, V7])
def test_other_magics_are_accepted(tar, magic):
    assert contents(tar(raw_tar([Entry(b"a", magic=magic)]))) == {"a": b"data"}


def test_ustar_prefixes_are_put_before_the_name(tar):
    entries = [Entry(b"b", prefix=b"a/long/way"), Entry(b"c")]
    assert list(contents(tar(raw_tar(entries)))) == ["a/long/way/b", "c"]


def test_gnus_times_where_ustar_has_its_prefix_are_no_part_of_the_name(tar):
    assert list(contents(tar(raw_tar([Entry(b"a", magic=GNU, prefix=b"14761372170")])))) == ["a"]


@pytest.mark.parametrize("before", [long_name(b"n" * 300), pax({"path": "n" * 300})])
def test_long_names_replace_the_short_one_of_the_next_member_only(tar, before):
    entries = [Entry(b"a"), before, Entry(b"short", b"long"), Entry(b"b")]
    path = tar(raw_tar(entries))
    assert contents(path) == {"a": b"data", "n" * 300: b"long", "b": b"data"}


@pytest.mark.parametrize(
    "size",
    [b"%011o\0" % 9, b"%011o " % 9, b"%012o" % 9, b"       11\0  ", b"11\0" + bytes(9),
     b"\x80" + (9).to_bytes(11, "big")],
    ids=["nul", "space", "full", "spaces", "short", "base-256"],
)  # fmt: skip
def test_sizes_are_read_in_every_form_that_writers_use(tar, size):
    entries = [Entry(b"a", b"nine byte", size=size), Entry(b"b")]
    assert contents(tar(raw_tar(entries))) == {"a": b"nine byte", "b": b"data"}


@pytest.mark.parametrize("form", [b"%07o\0", b"%7o ", b"%6o\0 "])
def test_checksums_are_read_in_every_form_that_writers_use(tar, form):
    total = int(Entry(b"a").header()[148:154], 8)
    assert contents(tar(raw_tar([Entry(b"a", checksum=form % total)]))) == {"a": b"data"}


def test_a_pax_size_that_agrees_with_the_header_is_accepted(tar):
    entries = [pax({"size": "4", "mtime": "1340000000.5"}), Entry(b"a"), Entry(b"b")]
    assert contents(tar(raw_tar(entries))) == {"a": b"data", "b": b"data"}


def test_harmless_global_headers_are_passed_over(tar):
    comment = pax({"comment": "0123456789abcdef", "mtime": "1"}, b"g")
    assert contents(tar(raw_tar([comment, Entry(b"a")]))) == {"a": b"data"}
    assert listed(tar(raw_tar([comment]))) == []


def test_blocks_of_zeros_after_the_end_are_accepted(tar):
    assert contents(tar(raw_tar([Entry(b"a")], END + bytes(3 << 20)))) == {"a": b"data"}


class Counting:
    """A file of zeros with headers here and there, that counts what is read of it."""

    seek_bytes = 1 << 14

    def __init__(self, headers, size):
        self.headers = headers
        self.stat = Stat(size, "")
        self.bytes = self.reads = 0

    def read_at(self, offset, size):
        self.reads += 1
        self.bytes += size
        data = bytearray(max(0, min(size, self.stat.size - offset)))
        for at in range(offset, offset + len(data), BLOCK):
            if at in self.headers:
                data[at - offset : at - offset + BLOCK] = self.headers[at]
        return bytes(data)


def test_of_large_members_nearly_nothing_but_the_headers_is_read():
    step, count = 128 << 20, 50
    headers = {
        n * step: Entry(b"%d" % n, b"", size=b"%011o\0" % (step - BLOCK)).header()
        for n in range(count)
    }
    file = Counting(headers, count * step + 1024)
    (table,) = list_tar(file, "x.tar")
    assert table.num_rows == count
    assert file.bytes <= (count + 2) * 4096
    assert file.reads <= count + 3


@pytest.mark.parametrize("cut", [1, 512, 40_000, 69_000])
def test_a_tar_cut_among_large_members_names_the_last_one(tar, cut):
    data = packed({f"{n}": bytes(70_000) for n in range(9)})
    path = tar(data[: 9 * (512 + 70_144) - cut - 144])
    with pytest.raises(BadArchive, match=r"x\.tar is truncated inside 8, which has 70000"):
        listed(path)


def test_of_small_members_many_come_with_one_read():
    headers = {n * BLOCK: Entry(b"%d" % n, b"").header() for n in range(50_000)}
    file = Counting(headers, 50_000 * BLOCK + 1024)
    assert sum(table.num_rows for table in list_tar(file, "x.tar")) == 50_000
    assert file.reads < 50
    assert file.bytes < 1.1 * file.stat.size


def test_large_and_small_members_may_take_turns(tar):
    rng = random.Random(5)
    members = {f"{n}": rng.randbytes(rng.choice([0, 9, 600, 70_000])) for n in range(400)}
    path = tar(packed(members))
    assert contents(path) == members


def test_many_batches_are_one_listing(tar):
    count = 2 * BATCH_MEMBERS + 5
    path = tar(raw_tar(Entry(b"%d" % n, b"") for n in range(count)))
    with open_local(path) as file:
        tables = list(list_tar(file, "x.tar"))
    assert len(tables) == 2
    assert max(table.num_rows for table in tables) < BATCH_MEMBERS + 2048
    assert all(table.schema.equals(MEMBERS) for table in tables)
    assert [name for t in tables for name in t["member"].to_pylist()] == list(
        map(str, range(count))
    )


PART = st.text(st.characters(codec="utf-8", exclude_characters="/\\:"), min_size=1, max_size=60)
PATH = (
    st.lists(PART, min_size=1, max_size=5)
    .map("/".join)
    .filter(lambda p: p.isprintable() and not {".", ".."} & set(p.split("/")))
    .filter(lambda p: not p.endswith(".tar"))
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    members=st.dictionaries(PATH, st.binary(max_size=1500), max_size=8),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_tar_of_the_standard_library_gives_the_same_bytes(tar, members, form):
    if len({name.casefold() for name in members}) < len(members):
        return
    assert contents(tar(packed(members, form)), ANYTHING) == members

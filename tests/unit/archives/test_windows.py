"""Headers are found by reading through or by hops, whichever costs less in a bucket."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.archives import Entry as ZipEntry
from tests.support.archives import raw_zip
from tests.support.by_request import ByRequest
from tests.support.tars import END, Entry, long_name, pax, raw_tar

from imagenet_etl.archives import windows
from imagenet_etl.archives.tar import list_tar
from imagenet_etl.archives.tar_gz import Unpacked
from imagenet_etl.archives.tar_walk import TarWalk
from imagenet_etl.archives.zip import list_zip
from imagenet_etl.errors import BadArchive
from imagenet_etl.storage import open_local

MIB = 1 << 20


def in_bucket(data, seek_bytes=MIB):
    return ByRequest(Unpacked(data, "etag"), seek_bytes)


@pytest.fixture
def sparse(tmp_path):
    """Make a tar of members of zeros that take no room, and open it as an object."""
    with ExitStack() as stack:

        def made(sizes):
            path = tmp_path / "x.tar"
            with path.open("wb") as file:
                for number, size in enumerate(sizes):
                    head = Entry(b"%d.JPEG" % number, b"", size=b"%011o\0" % size).header()
                    file.write(head)
                    file.seek(size + -size % 512, 1)
                file.write(END)
            return ByRequest(stack.enter_context(open_local(path)))

        yield made


def names_of(tables):
    return [name for table in tables for name in table["member"].to_pylist()]


def walked(file, ahead=0):
    """Return what a walk finds: header blocks, where they are, and sizes."""
    walk = TarWalk(file, "x.tar", 0, file.stat.size, ahead)
    return [
        (bytes(block), at, size)
        for headers in walk.headers()
        for block, at, size in zip(*headers.columns, strict=True)
    ]


def test_near_members_are_read_through_in_few_large_requests_each_byte_once(sparse) -> None:
    file = sparse([110_000] * 300)  # 33 MB
    assert len(walked(file)) == 300
    assert len(file.reads) <= 2 + 33_000_000 // (4 * MIB) + 1
    assert 0.9 * file.stat.size < file.bytes <= file.stat.size
    assert max(size for _, size in file.reads) <= 4 * MIB
    assert file.most_asked == 0


def test_far_members_are_hopped_between_and_hardly_read(sparse) -> None:
    file = sparse([3_000_000] * 64)
    assert len(walked(file, ahead=8)) == 64
    assert len(file.reads) == 65
    assert file.bytes < 2 * MIB


def test_what_a_request_is_worth_decides(sparse) -> None:
    sizes = [110_000] * 100
    slow, fast = sparse(sizes), sparse(sizes)
    slow.seek_bytes = 64 << 10  # a narrow line: the bytes cost more than the requests
    assert walked(slow) == walked(fast)
    assert len(slow.reads) >= 90
    assert len(fast.reads) <= 6
    assert slow.bytes < fast.bytes / 4


def test_a_walk_alone_has_several_windows_under_way_and_no_more(sparse) -> None:
    file = sparse([134_000] * 700)  # 94 MB
    assert len(names_of(list_tar(file, "x.tar"))) == 700
    assert file.most_asked == 8 * 4 * MIB
    assert file.asked == []
    assert file.bytes <= file.stat.size
    assert len(file.reads) <= 3 + file.stat.size // (4 * MIB) + 1


def test_small_members_end_with_their_tar_in_one_request() -> None:
    file = in_bucket(raw_tar([Entry(b"%d" % k, b"x" * k) for k in range(100)], END * 9))
    assert len(walked(file)) == 100
    assert len(file.reads) == 1


def test_a_tar_that_is_shorter_than_a_request_is_worth_comes_whole() -> None:
    file = in_bucket(raw_tar([Entry(b"%d" % k, bytes(9000)) for k in range(100)]))
    assert 900_000 < file.stat.size < MIB
    assert len(walked(file)) == 100
    assert len(file.reads) == 1


def test_extended_headers_of_far_members_cost_no_request_of_their_own() -> None:
    entries = []
    for number in range(5):
        entries += [pax({"mtime": "1.5", "path": "d/" + "p" * 200 + str(number)}),
                    Entry(b"x", bytes(2 * MIB))]  # fmt: skip
    file = in_bucket(raw_tar(entries))
    assert len(walked(file)) == 5
    assert len(file.reads) == 6


@st.composite
def tars(draw):
    entries = []
    for number in range(draw(st.integers(0, 40))):
        kind = draw(st.sampled_from(["usual", "long", "pax"]))
        if kind == "long":
            entries.append(long_name(b"n" * draw(st.integers(1, 3000)) + b"%d" % number))
        elif kind == "pax":
            entries.append(pax({"path": "p" * draw(st.integers(1, 3000)) + str(number)}))
        size = draw(st.sampled_from([0, 1, 511, 512, 700, 5000, 20_000, 90_000]))
        entries.append(Entry(b"%d" % number, bytes(size)))
    return raw_tar(entries, END * draw(st.sampled_from([1, 2, 50])))


@given(data=tars(), seek=st.sampled_from([40_000, 200_000]), ahead=st.sampled_from([0, 1, 3]))
def test_whatever_is_in_a_tar_a_bucket_gives_what_a_disk_gives(data, seek, ahead) -> None:
    file = in_bucket(data, seek)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "_ALONE", 1024)
        patch.setattr(windows.WindowByRequest, "_first", 1024)
        patch.setattr(windows.WindowByRequest, "_largest", 4096)
        assert walked(file, ahead) == walked(Unpacked(data, ""))
    assert file.most_asked <= max(ahead, 1) * 4096
    assert file.bytes <= len(data) + 4000 * len(file.reads)


@pytest.mark.parametrize("cut", [100, 512, 3 * MIB, 9 * MIB + 700, 12 * MIB])
@pytest.mark.parametrize("ahead", [0, 8])
def test_a_cut_tar_is_refused_with_the_words_of_a_disk(cut, ahead) -> None:
    whole = raw_tar([Entry(b"%d" % k, bytes(120_000)) for k in range(110)])
    cut_tar = whole[:-cut]
    with pytest.raises(BadArchive) as on_disk:
        walked(Unpacked(cut_tar, ""))
    with pytest.raises(BadArchive) as in_the_bucket:
        walked(in_bucket(cut_tar), ahead)
    assert str(in_the_bucket.value) == str(on_disk.value)
    assert "truncated" in str(in_the_bucket.value)


def test_an_object_that_ends_before_its_size_is_truncated() -> None:
    file = in_bucket(raw_tar([Entry(b"%d" % k, bytes(120_000)) for k in range(110)]))
    file._file = Unpacked(file._file.read_at(0, 10 * MIB), "etag")
    with pytest.raises(BadArchive, match="truncated inside the header"):
        walked(file, 8)


def test_a_zip_of_small_members_is_read_through() -> None:
    data = raw_zip(ZipEntry(b"%d.JPEG" % k, bytes(2000)) for k in range(5000))
    file = in_bucket(data)
    assert list(list_zip(file, "x.zip")) == list(list_zip(Unpacked(data, ""), "x.zip"))
    # The end record, the directory, and 10 MB of members.
    assert len(file.reads) <= 7
    assert file.bytes <= 1.1 * len(data)
    assert file.asked == []


def test_a_zip_of_large_members_is_hopped_through() -> None:
    data = raw_zip(ZipEntry(b"%d.JPEG" % k, bytes(2 * MIB)) for k in range(6))
    file = in_bucket(data)
    assert list(list_zip(file, "x.zip")) == list(list_zip(Unpacked(data, ""), "x.zip"))
    assert len(file.reads) == 2 + 6
    assert file.bytes < MIB


def test_a_directory_in_another_order_than_its_members_gives_the_same() -> None:
    entries = [ZipEntry(b"%d.JPEG" % k, bytes(3000 * (k % 7))) for k in range(200)]
    data = _directory_reversed(raw_zip(entries))
    on_disk = list(list_zip(Unpacked(data, ""), "x.zip"))
    assert [m.name for m in on_disk] == [e.name.decode() for e in reversed(entries)]
    assert list(list_zip(in_bucket(data), "x.zip")) == on_disk


def _directory_reversed(data):
    start = data.index(b"PK\1\2")
    end = data.rindex(b"PK\5\6")
    entries = data[start:end].split(b"PK\1\2")[1:]
    return data[:start] + b"".join(b"PK\1\2" + e for e in reversed(entries)) + data[end:]


def test_a_disk_is_read_as_ever(tmp_path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(
        raw_tar([Entry(b"%d" % k, bytes(size)) for k, size in enumerate([20_000] * 4)])
    )
    with open_local(path) as file:
        noted = ByRequest(file, seek_bytes=file.seek_bytes)
        walked(noted)
    assert [size for _, size in noted.reads][:5] == [4096, 512, 512, 512, 512]
    assert noted.bytes == 4096 + 5 * 512 + 1024  # the end blocks twice

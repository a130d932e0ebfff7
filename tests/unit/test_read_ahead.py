"""What a packing worker asks a disk or a bucket for before it reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.archives.member import Member
from imagenet_etl.archives.read_ahead import LOT_BYTES, LOT_MEMBERS, read_ahead


class Asked:
    """An archive that notes what it is asked for."""

    def __init__(self, name="a.tar", *, by_request=False):
        self.name = name
        self.by_request = by_request
        self.members = []
        self.bytes = 0

    def will_need(self, members):
        self.members += members
        self.bytes += sum(member.size for member in members)


def planned(archive, offsets, tars=("x.tar",)):
    for number, at in enumerate(offsets):
        name = f"{tars[number % len(tars)]}/{number}.JPEG"
        yield {}, archive, Member(name, at, at + 512, 10, 10)


@given(count=st.integers(1, 200), lot=st.integers(1, 70))
def test_the_order_stays_and_everything_is_asked_for_before_it_is_read(count, lot):
    archive = Asked()
    offsets = [(n * 7919) % 1000 for n in range(count)]
    given_out = []
    for item in read_ahead(planned(archive, offsets), lot):
        assert item[2] in archive.members
        assert len(archive.members) == min(count, (len(given_out) // lot + 2) * lot)
        given_out.append(item[2].header_offset)
    assert given_out == offsets
    assert len(archive.members) == count


@pytest.mark.parametrize("tars", [("x.tar",), ("y.tar", "x.tar")])
def test_members_are_asked_for_as_they_lie(tars):
    archive = Asked()
    list(read_ahead(planned(archive, [90, 10, 70, 30, 50], tars), 100))
    asked = [(m.name.partition("/")[0], m.header_offset) for m in archive.members]
    assert asked == sorted(asked)


def images(archive, sizes):
    """Plan images that lie one after the other in class tars, the later ones named first."""
    at = 0
    for number, size in enumerate(sizes):
        name = f"n{9 - 3 * number // len(sizes)}.tar/{number}.JPEG"
        yield {}, archive, Member(name, at, at + 512, size, size)
        at += 512 + size


def waiting(archive, plan, count):
    """Read what is planned, and return the most members, and bytes, asked for and not read."""
    read, read_bytes, most, most_bytes = 0, 0, 0, 0
    for _, _, member in read_ahead(plan, count):
        most = max(most, len(archive.members) - read)
        most_bytes = max(most_bytes, archive.bytes - read_bytes)
        read, read_bytes = read + 1, read_bytes + member.size
    return most, most_bytes


@pytest.mark.parametrize("count", [16, 4096])
def test_what_waits_from_a_bucket_is_bounded_whatever_the_images(count):
    archive = Asked(by_request=True)
    most, most_bytes = waiting(archive, images(archive, [110_000] * 1000), count)
    assert most_bytes < 2 * (LOT_BYTES + 110_000)
    assert most > 440
    archive = Asked(by_request=True)
    _, most_bytes = waiting(archive, images(archive, [15_000_000] * 9), count)
    assert most_bytes <= 4 * 15_000_000


def test_small_images_of_a_bucket_are_asked_for_by_hundreds_or_by_the_window():
    archive = Asked(by_request=True)
    assert waiting(archive, images(archive, [2000] * 1500), 16)[0] == 2 * LOT_MEMBERS
    archive = Asked(by_request=True)
    assert waiting(archive, images(archive, [2000] * 9000), 4096)[0] == 2 * 4096


def test_a_bucket_is_asked_for_class_tars_as_they_lie_and_not_by_name():
    archive = Asked(by_request=True)
    list(read_ahead(images(archive, [2000] * 90), 16))
    asked = [member.header_offset for member in archive.members]
    assert asked == sorted(asked)


def test_an_archive_on_a_disk_and_one_in_a_bucket_are_each_asked_for_their_own():
    disk, bucket = Asked("a.tar"), Asked("b.tar", by_request=True)
    plan = [*images(disk, [2000] * 40), *images(bucket, [2000] * 40)]
    assert [item[1].name for item in read_ahead(iter(plan), 16)] == ["a.tar"] * 40 + ["b.tar"] * 40
    assert (len(disk.members), len(bucket.members)) == (40, 40)

"""What a packing worker asks the disk for before it reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.archives.member import Member
from imagenet_etl.pack_worker import read_ahead


class Asked:
    """An archive that notes what it is asked for."""

    name = "a.tar"

    def __init__(self):
        self.members = []

    def will_need(self, members):
        self.members += members


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

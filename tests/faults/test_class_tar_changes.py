"""A class tar of a folder that changes while a run uses it is noticed, whatever stays equal."""

import os

import pytest
from tests.support.archives import run_stages
from tests.support.class_tars import fall11, few_classes, inner_tars, tar_folder, untarred

from imagenet_etl.archives import class_tars
from imagenet_etl.archives.location import archives_of, open_archive
from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.index import member_of

CLASSES = few_classes(3)
TARS = inner_tars(CLASSES)


@pytest.fixture
def folder(tmp_path):
    return tar_folder(tmp_path / "tars", TARS)


def grown(path):
    path.write_bytes(path.read_bytes() + bytes(512))


def touched(path):
    os.utime(path, ns=(1, 1))


def cut(path):
    os.truncate(path, path.stat().st_size - 2000)


def removed(path):
    path.unlink()


def its_folder_in_its_place(path):
    path.unlink()
    path.mkdir()


def linked(path):
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


def replaced_by_another(path):
    other = path.with_name("other")
    other.write_bytes(TARS["n00000001"])
    other.replace(path)


def another_header_of_equal_size_and_time(path):
    state, data = path.stat(), bytearray(path.read_bytes())
    for at in range(0, len(data) - 1024, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 108] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


CHANGES = [grown, touched, cut, removed, its_folder_in_its_place, linked, replaced_by_another]


@pytest.mark.parametrize("change", [*CHANGES, another_header_of_equal_size_and_time])
def test_reading_notices_and_other_class_tars_are_read_on(tmp_path, folder, change):
    build = fall11(tmp_path, folder)
    _, rows = untarred(build)
    (ref,) = archives_of(run_stages(build, "download")["download"]).values()
    change(folder / "n00000002.tar")
    with open_archive(build.storage, ref) as archive:
        for row in rows:
            archive.will_need([member_of(row)])
            if row["wnid"] != "n00000002":
                assert archive.read(member_of(row)) == CLASSES[row["wnid"]][row["file_name"]]
                continue
            with pytest.raises(ArchiveChanged):
                archive.read(member_of(row))


def test_a_class_tar_that_is_cut_while_a_member_is_read_is_noticed(tmp_path, folder, monkeypatch):
    build = fall11(tmp_path, folder)
    _, rows = untarred(build)
    (ref,) = archives_of(run_stages(build, "download")["download"]).values()
    pread = os.pread

    def cut_first(fd, size, offset):
        cut(folder / "n00000001.tar")
        monkeypatch.undo()
        return pread(fd, size, offset)

    monkeypatch.setattr("imagenet_etl.storage.local.os.pread", cut_first)
    with (
        open_archive(build.storage, ref) as archive,
        pytest.raises(ArchiveChanged, match=r"n00000001.tar changed since it was indexed"),
    ):
        archive.read(member_of(rows[0]))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("budget", [0, 3])
def test_a_change_between_listing_and_walk_is_no_bad_class(
    tmp_path, folder, monkeypatch, change, budget
):
    walks = class_tars.walks

    def changed_first(tars, *args):
        for number, tar in enumerate(list(tars)):
            if number == 0:
                change(folder / "n00000002.tar")
            yield from walks([tar], *args)

    monkeypatch.setattr("imagenet_etl.archives.nested.walks", changed_first)
    with pytest.raises(ArchiveChanged, match=r"n00000002.tar changed since it was indexed"):
        untarred(fall11(tmp_path, folder, max_bad_classes=budget))


@pytest.mark.parametrize("change", [grown, touched, cut, replaced_by_another])
@pytest.mark.parametrize("budget", [0, 3])
def test_a_change_while_it_is_walked_is_no_bad_class(tmp_path, folder, monkeypatch, change, budget):
    class Walk(class_tars.TarWalk):
        def headers(self):
            if "n00000002" in self._place:
                # In place, as somebody who copies into the folder does.
                data, path = TARS["n00000001"], folder / "n00000002.tar"
                path.write_bytes(data) if change is replaced_by_another else change(path)
            yield from super().headers()

    monkeypatch.setattr(class_tars, "TarWalk", Walk)
    with pytest.raises(ArchiveChanged, match=r"n00000002.tar changed since it was indexed"):
        untarred(fall11(tmp_path, folder, max_bad_classes=budget))

"""The way from class tar to class tar is walked once, however many slices the index takes."""

import os
from pathlib import Path

import pytest
from tests.support.archives import run_stages
from tests.support.class_tars import (
    WHOLE,
    fall11,
    few_classes,
    index_bytes,
    inner_tars,
    make_small_parts,
    tar_folder,
    untarred,
    whole_tar,
)

from imagenet_etl import own_members
from imagenet_etl.archives import listing
from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.opened import OpenFile, OpenFolder
from imagenet_etl.errors import ArchiveChanged, SchemaTooNew, StillPending
from imagenet_etl.pipeline import run_stage

TARS = inner_tars(few_classes(9))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    make_small_parts(monkeypatch)
    monkeypatch.setattr(own_members, "_WORTH_S", 0.0)


@pytest.fixture
def source(tmp_path):
    return whole_tar(tmp_path / WHOLE, TARS)


@pytest.fixture
def walks(monkeypatch):
    """Note each time that an archive is asked for its own members."""
    names = []
    for kind in (OpenFile, OpenFolder):

        def listed(archive, listed=kind.listed):
            names.append(archive.name)
            return listed(archive)

        monkeypatch.setattr(kind, "listed", listed)
    return names


def one_slice(build) -> None:
    run_stages(build, "download")
    with build.locked() as held, pytest.raises(StillPending):
        run_stage(held, "untar")


def noted(build) -> list[Path]:
    return list(Path(build.settings.data_dir).glob("work/*/untar/*/parts/*/members.json"))


def test_slices_walk_the_archive_once_and_end_in_the_same_bytes(tmp_path, source, walks) -> None:
    undisturbed = fall11(tmp_path / "undisturbed", source)
    untarred(undisturbed)
    walks.clear()
    build = fall11(tmp_path, source, slice_s=0)
    for _ in range(4):
        one_slice(build)
    untarred(build)
    assert walks == [WHOLE]
    assert index_bytes(build) == index_bytes(undisturbed)
    assert noted(build) == [], "it goes when the index is there"


def test_a_short_walk_is_made_again(tmp_path, source, walks, monkeypatch) -> None:
    monkeypatch.setattr(own_members, "_WORTH_S", 60.0)
    build = fall11(tmp_path, source, slice_s=0)
    one_slice(build)
    one_slice(build)
    assert (walks, noted(build)) == ([WHOLE, WHOLE], [])


def test_an_archive_with_more_members_than_classes_is_not_noted(
    tmp_path, source, walks, monkeypatch
) -> None:
    monkeypatch.setattr(own_members, "_MOST", 8)
    build = fall11(tmp_path, source, slice_s=0)
    one_slice(build)
    assert (walks, noted(build)) == ([WHOLE], [])


def test_a_folder_is_looked_through_each_time(tmp_path, walks) -> None:
    build = fall11(tmp_path, tar_folder(tmp_path / "tars", TARS), slice_s=0)
    one_slice(build)
    one_slice(build)
    assert (len(walks), noted(build)) == (2, [])


DAMAGES = {
    "empty": lambda _: b"",
    "cut": lambda data: data[:-1],
    "another name": lambda data: data.replace(b"n00000001", b"n00000011", 1),
    "no digest": lambda data: data.replace(b"digest", b"tsegid"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_notes_are_made_anew(tmp_path, source, walks, damage) -> None:
    build = fall11(tmp_path, source, slice_s=0)
    one_slice(build)
    (notes,) = noted(build)
    good = notes.read_bytes()
    damaged = DAMAGES[damage](good)
    assert damaged != good
    notes.write_bytes(damaged)
    one_slice(build)
    assert walks == [WHOLE, WHOLE]
    assert notes.read_bytes() == good


def test_notes_of_another_archive_are_not_used(tmp_path, source, walks, monkeypatch) -> None:
    build = fall11(tmp_path, source, slice_s=0)
    with monkeypatch.context() as other:
        other.setattr(own_members, "_told_apart_by", lambda _: ["another", 0, ""])
        one_slice(build)
    one_slice(build)
    assert walks == [WHOLE, WHOLE]


def test_notes_of_a_newer_version_are_refused(tmp_path, source, monkeypatch) -> None:
    build = fall11(tmp_path, source, slice_s=0)
    with monkeypatch.context() as newer:
        newer.setattr(own_members, "NOTES_SCHEMA", own_members.NOTES_SCHEMA + 1)
        one_slice(build)
    with build.locked() as held, pytest.raises(SchemaTooNew):
        run_stage(held, "untar")


def test_an_archive_that_changes_while_it_is_walked_is_not_noted(
    tmp_path, source, monkeypatch
) -> None:
    build = fall11(tmp_path, source, slice_s=0)
    run_stages(build, "download")
    listed = OpenFile.listed

    def changing(archive):
        yield from listed(archive)
        os.utime(source, ns=(0, 0))

    monkeypatch.setattr(OpenFile, "listed", changing)
    with build.locked() as held, pytest.raises(ArchiveChanged):
        run_stage(held, "untar")
    assert noted(build) == []


def test_notes_yield_the_tables_of_the_walk(tmp_path, source, monkeypatch) -> None:
    monkeypatch.setattr(listing, "BATCH_MEMBERS", 4)
    build = fall11(tmp_path, source, slice_s=0)
    seen = []
    own = Sorter.own_images

    def watched(sorter, archive, tables):
        kept = list(tables)
        seen.append([table.num_rows for table in kept])
        return own(sorter, archive, kept)

    monkeypatch.setattr(Sorter, "own_images", watched)
    one_slice(build)
    one_slice(build)
    assert seen[0] == seen[1]
    assert sum(seen[0]) == len(TARS)

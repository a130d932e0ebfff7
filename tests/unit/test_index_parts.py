"""The index of class tars is made in parts that the next run goes on from."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from tests.support.archives import run_stages
from tests.support.class_tars import (
    WHOLE,
    fall11,
    few_classes,
    image_tree,
    index_bytes,
    inner_tars,
    make_small_parts,
    parts_of,
    tar_folder,
    untarred,
    whole_tar,
)

from imagenet_etl.archives import class_tars
from imagenet_etl.errors import BadArchive, LeaseLost, SchemaTooNew, StillPending
from imagenet_etl.files import pretty_json
from imagenet_etl.index_parts import IndexParts
from imagenet_etl.pipeline import run_stage

CLASSES = few_classes(9)
TARS = inner_tars(CLASSES)
SOURCES = {"whole": lambda path, tars: whole_tar(path / WHOLE, tars),
           "folder": lambda path, tars: tar_folder(path / "tars", tars)}  # fmt: skip


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    make_small_parts(monkeypatch)


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    return SOURCES[request.param](tmp_path, TARS)


@pytest.fixture
def walked(monkeypatch):
    """Note the class tars that are walked."""
    names = []

    class Walk(class_tars.TarWalk):
        def __init__(self, file, place, start, end):
            names.append(place.rpartition(" ")[2])
            super().__init__(file, place, start, end)

    monkeypatch.setattr(class_tars, "TarWalk", Walk)
    return names


def pending(build):
    """Run untar with no time at all: it ends after a part; return what it says."""
    run_stages(build, "download")
    with build.locked() as held, pytest.raises(StillPending) as caught:
        run_stage(held, "untar")
    return str(caught.value)


@pytest.fixture
def undisturbed(tmp_path, source):
    build = fall11(tmp_path / "undisturbed", source)
    untarred(build)
    assert parts_of(build) == []
    return index_bytes(build)


def test_a_task_whose_time_is_up_keeps_its_part_and_says_how_far_it_is(tmp_path, source) -> None:
    build = fall11(tmp_path, source, slice_s=0)
    assert pending(build) == (
        f"untar {WHOLE}: 2 of 9 class tars with 6 images are listed, and the rest follows"
    )
    assert parts_of(build) == ["00000.json"]
    assert "4 of 9 class tars with 12 images" in pending(build)
    assert parts_of(build) == ["00000.json", "00001.json"]


def test_slices_end_in_the_bytes_of_one_go(tmp_path, source, undisturbed) -> None:
    build = fall11(tmp_path, source, slice_s=0)
    for _ in range(4):
        pending(build)
    receipt, rows = untarred(build)
    assert index_bytes(build) == undisturbed
    assert receipt.counts["train_images"] == len(rows) == 27
    assert parts_of(build) == []


def test_only_the_rest_is_walked_and_what_was_there_is_told(
    tmp_path, source, walked, caplog
) -> None:
    pending(fall11(tmp_path, source, slice_s=0))
    walked.clear()
    with caplog.at_level(logging.INFO):
        untarred(fall11(tmp_path, source))
    assert sorted(walked) == [f"{wnid}.tar" for wnid in list(TARS)[2:]]
    assert f"untar {WHOLE}: 2 of 9 class tars with 6 images were listed before" in caplog.text


@pytest.mark.parametrize("point", range(1, 9))
def test_trouble_in_the_middle_costs_only_the_part_that_it_is_in(
    tmp_path, source, undisturbed, walked, monkeypatch, point
) -> None:
    """As a kill would, it leaves whole parts, and maybe a table that nothing vouches for."""
    build = fall11(tmp_path, source)
    put, puts = type(build.storage).put, []

    def fails_once(storage, key, data):
        if "/parts/" in key:
            puts.append(key)
            if len(puts) == point:
                raise KeyboardInterrupt
        put(storage, key, data)

    monkeypatch.setattr(type(build.storage), "put", fails_once)
    if point <= 5:
        with pytest.raises(KeyboardInterrupt):
            untarred(build)
        assert len(parts_of(build)) == point - 1
    walked.clear()
    untarred(build)
    assert index_bytes(build) == undisturbed
    if point <= 5:
        assert len(walked) == 9 - 2 * (point - 1)


@pytest.mark.parametrize(
    "harm", ["table gone", "table cut", "table replaced", "of other class tars"]
)
def test_a_part_that_cannot_be_trusted_is_made_again(
    tmp_path, source, undisturbed, walked, harm
) -> None:
    build = fall11(tmp_path, source, slice_s=0)
    pending(build)
    pending(build)
    (path,) = (tmp_path / "data").glob("work/*/untar/*/parts/*/00001.parquet")
    if harm == "table gone":
        path.unlink()
    elif harm == "table cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "table replaced":
        path.write_bytes(path.read_bytes())
    else:
        note = path.with_suffix(".json")
        note.write_bytes(pretty_json(json.loads(note.read_bytes()) | {"listing": "0" * 64}))
    walked.clear()
    untarred(fall11(tmp_path, source))
    assert sorted(walked) == [f"{wnid}.tar" for wnid in list(TARS)[2:]]
    assert index_bytes(build) == undisturbed


def test_a_part_of_a_newer_version_is_refused(tmp_path, source) -> None:
    build = fall11(tmp_path, source, slice_s=0)
    pending(build)
    (note,) = (tmp_path / "data").glob("work/*/untar/*/parts/*/00000.json")
    note.write_bytes(pretty_json(json.loads(note.read_bytes()) | {"schema_version": 99}))
    with pytest.raises(SchemaTooNew):
        untarred(build)


def test_parts_that_another_run_has_joined_and_removed_ask_for_another_try(
    tmp_path, source, monkeypatch
) -> None:
    build = fall11(tmp_path, source)
    complete = IndexParts.complete

    def removed_afterwards(parts, *args):
        complete(parts, *args)
        (folder,) = (tmp_path / "data").glob("work/*/untar/*/parts")
        shutil.rmtree(folder)

    with monkeypatch.context() as patch:
        patch.setattr(IndexParts, "complete", removed_afterwards)
        with pytest.raises(LeaseLost, match="of the index is gone"):
            untarred(build)
    assert untarred(build)[0].counts["train_images"] == 27


@pytest.mark.parametrize("kind", SOURCES)
def test_bad_class_tars_before_and_after_the_pause_are_all_noted(tmp_path, kind) -> None:
    tars = TARS | {"n00000001": b"", "n00000002": b"", "n00000008": b""}
    source = SOURCES[kind](tmp_path, tars)
    build = fall11(tmp_path, source, slice_s=0, max_bad_classes=3)
    assert "4 of 9 class tars with 6 images" in pending(build)
    receipt, _ = untarred(fall11(tmp_path, source, max_bad_classes=3))
    found = [row["wnid"] for row in receipt.facts["bad_classes"]]
    assert found == ["n00000001", "n00000002", "n00000008"]
    undisturbed = fall11(tmp_path / "undisturbed", source, max_bad_classes=3)
    untarred(undisturbed)
    assert index_bytes(build) == index_bytes(undisturbed)


def test_the_budget_counts_what_was_left_out_before_the_pause(tmp_path) -> None:
    source = whole_tar(tmp_path / WHOLE, TARS | {"n00000001": b"", "n00000008": b""})
    pending(fall11(tmp_path, source, slice_s=0, max_bad_classes=1))
    with pytest.raises(BadArchive, match=r"n00000001.tar, n00000008.tar"):
        untarred(fall11(tmp_path, source, max_bad_classes=1))


def test_few_large_class_tars_make_a_part_by_their_bytes(tmp_path, source, monkeypatch) -> None:
    monkeypatch.setattr("imagenet_etl.index_parts.PART_ROWS", 1000)
    monkeypatch.setattr("imagenet_etl.index_parts.PART_BYTES", len(next(iter(TARS.values()))) * 3)
    told = pending(fall11(tmp_path, source, slice_s=0))
    assert "3 of 9 class tars with 9 images" in told or "4 of 9" in told


def test_an_archive_without_class_tars_is_listed_in_one_go(tmp_path: Path) -> None:
    tree = image_tree(tmp_path / "tree", CLASSES)
    build = fall11(tmp_path, tree, slice_s=0)
    assert untarred(build)[0].counts["train_images"] == 27

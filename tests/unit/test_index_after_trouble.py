"""An index that ended in trouble leaves no row of an unfinished class tar for the next run."""

import json
from pathlib import Path

import pytest
from tests.support.archives import run_stages
from tests.support.class_tars import (
    WHOLE,
    fall11,
    few_classes,
    index_bytes,
    inner_tars,
    parts_of,
    tar_folder,
    untarred,
    whole_tar,
)

from imagenet_etl.errors import BadArchive, StillPending
from imagenet_etl.files import pretty_json
from imagenet_etl.pipeline import run_stage

TARS = inner_tars(few_classes(9))
LARGE = inner_tars(few_classes(9, 12))
EARLY, LATE = "n00000003", "n00000004"
HARM = {
    "truncated": lambda data: data[:-1300],
    "cut at a member's end": lambda data: data[:-1024],
    "first header": lambda data: data[:3] + b"!" + data[4:],
}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """Let a part end after 6 rows, and let a class tar of 5 images count as a large one."""
    monkeypatch.setattr("imagenet_etl.index_parts.PART_ROWS", 6)
    monkeypatch.setattr("imagenet_etl.archives.nested.BATCH_MEMBERS", 5)
    monkeypatch.setattr("imagenet_etl.archives.tar_walk.BATCH_MEMBERS", 5)


@pytest.fixture(params=["whole", "folder"])
def source(request, tmp_path):
    """Make a source of class tars: the whole tar, or a folder of them."""

    def make(tars):
        if request.param == "whole":
            return whole_tar(tmp_path / WHOLE, tars)
        return tar_folder(tmp_path / "tars", tars)

    return make


def assert_as_fresh(tmp_path: Path, archive: Path, bad: str) -> None:
    """Compare what a run makes of the parts of others with what one makes without any."""
    receipt, rows = untarred(fall11(tmp_path, archive, max_bad_classes=1))
    fresh = fall11(tmp_path / "fresh", archive, max_bad_classes=1)
    expected, expected_rows = untarred(fresh)
    assert (receipt.counts, rows) == (expected.counts, expected_rows)
    assert [row["wnid"] for row in receipt.facts["bad_classes"]] == [bad]
    assert {row["wnid"] for row in rows} == TARS.keys() - {bad}
    assert index_bytes(fall11(tmp_path, archive)) == index_bytes(fresh)


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("size", ["small", "large"])
def test_allowing_the_bad_one_afterwards_gives_the_index_of_a_fresh_run(
    tmp_path: Path, source, size, harm
) -> None:
    data = (TARS if size == "small" else LARGE)[LATE]
    archive = source(TARS | {LATE: HARM[harm](data)})
    for _ in range(2):
        with pytest.raises(BadArchive, match=rf"^{WHOLE}: {LATE}\.tar"):
            untarred(fall11(tmp_path, archive))
    assert_as_fresh(tmp_path, archive, LATE)


@pytest.mark.parametrize("harm", HARM)
def test_a_large_class_tar_after_the_bad_one_changes_nothing(tmp_path: Path, source, harm) -> None:
    archive = source(TARS | {EARLY: HARM[harm](TARS[EARLY]), LATE: LARGE[LATE]})
    for _ in range(2):
        with pytest.raises(BadArchive, match=rf"^{WHOLE}: {EARLY}\.tar"):
            untarred(fall11(tmp_path, archive))
    assert_as_fresh(tmp_path, archive, EARLY)


def test_the_first_of_two_bad_ones_is_told_when_a_large_one_follows(tmp_path: Path, source) -> None:
    harm = HARM["first header"]
    archive = source(TARS | {EARLY: harm(TARS[EARLY]), LATE: harm(LARGE[LATE])})
    with pytest.raises(BadArchive, match=rf"^{WHOLE}: {EARLY}\.tar"):
        untarred(fall11(tmp_path, archive))


def pending(build) -> str:
    """Run untar with no time at all: it ends after a part; return what it says."""
    run_stages(build, "download")
    with build.locked() as held, pytest.raises(StillPending) as caught:
        run_stage(held, "untar")
    return str(caught.value)


def test_parts_that_lack_more_classes_than_this_run_allows_are_refused(
    tmp_path: Path, source
) -> None:
    archive = source(TARS | {"n00000001": b"", "n00000002": b""})
    pending(fall11(tmp_path, archive, slice_s=0, max_bad_classes=2))
    for budget in (0, 1):
        with pytest.raises(BadArchive) as caught:
            untarred(fall11(tmp_path, archive, max_bad_classes=budget))
        message = str(caught.value)
        assert f"more bad class tars than the run allows: expected at most {budget}" in message
        assert "n00000001.tar, n00000002.tar" in message
    assert untarred(fall11(tmp_path, archive, max_bad_classes=2))[0].counts["bad_classes"] == 2


def test_parts_of_the_first_schema_are_made_again(tmp_path: Path, source) -> None:
    """They may hold what does not belong to them."""
    archive = source(TARS)
    build = fall11(tmp_path, archive, slice_s=0)
    pending(build)
    (path,) = (tmp_path / "data").glob("work/*/untar/*/parts/*/00000.json")
    fields = json.loads(path.read_bytes())
    class_tars = fields["class_tars"]
    bogus = {"schema_version": 1, "class_tars": class_tars + 1}
    path.write_bytes(pretty_json(fields | bogus))
    assert f"{class_tars} of 9 class tars" in pending(build)
    assert parts_of(build) == ["00000.json"]
    receipt, _ = untarred(fall11(tmp_path, archive))
    assert receipt.counts["train_images"] == 27

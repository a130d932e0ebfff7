"""Class tars that are missing, empty or damaged, and the number of them that a run may lack."""

from pathlib import Path

import pytest
from tests.support.class_tars import (
    WHOLE,
    fall11,
    few_classes,
    inner_tars,
    publishing,
    tar_folder,
    untarred,
    whole_tar,
)
from tests.support.tars import END, Entry, raw_tar

from imagenet_etl.archives.listing import BATCH_MEMBERS
from imagenet_etl.errors import BadArchive, CountMismatch, UnsafeMember

CLASSES = few_classes(5)
TARS = inner_tars(CLASSES)
BAD = "n00000003"
INNER = TARS[BAD]


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def many_then_cut() -> bytes:
    """Return a class tar that is cut off after more members than are looked at together."""
    names = (b"n00000003_%d.JPEG" % k for k in range(3 * BATCH_MEMBERS))
    return b"".join(Entry(name, b"").header() for name in names)


def many_then_damaged() -> bytes:
    """Return a class tar with trouble in its last header, long after the first were listed."""
    names = [b"n00000003_%d.JPEG" % k for k in range(3 * BATCH_MEMBERS)]
    return raw_tar([*(Entry(name, b"") for name in names), Entry(b"z", checksum=b"000000\0 ")])


HARM = {
    "no byte": b"",
    "end blocks alone": END,
    "cut in a member": INNER[:700],
    "cut in a header": INNER[: len(INNER) // 2 // 512 * 512 + 100],
    "cut at a member's end": INNER[: -len(END)],
    "cut between end blocks": INNER[:-512],
    "damaged first header": damaged(INNER, 3),
    "damaged last header": damaged(INNER, INNER.rindex(b"n00000003_2") + 150),
    "an HTML page": b"<html>Sign in</html>".ljust(1024),
    "gzip": b"\x1f\x8b" + bytes(range(256)) * 8,
    "many members, then cut": many_then_cut(),
    "many members, then damage": many_then_damaged(),
}


@pytest.fixture(params=["whole", "folder"])
def source(request, tmp_path):
    """Make a source of class tars: the whole tar, or a folder of them."""

    def make(tars):
        if request.param == "whole":
            return whole_tar(tmp_path / WHOLE, tars)
        return tar_folder(tmp_path / "tars", tars)

    return make


@pytest.mark.parametrize("harm", HARM)
def test_a_bad_class_tar_is_left_out_whole_and_noted(tmp_path: Path, source, harm) -> None:
    build = fall11(tmp_path, source(TARS | {BAD: HARM[harm]}), max_bad_classes=1)
    receipt, rows = untarred(build)
    assert {row["wnid"] for row in rows} == TARS.keys() - {BAD}
    (noted,) = receipt.facts["bad_classes"]
    assert (noted["wnid"], noted["path"], noted["archive"]) == (BAD, f"{BAD}.tar", WHOLE)
    assert noted["reason"].startswith(f"{WHOLE}: {BAD}.tar")
    assert receipt.counts == {
        "train_images": 12, "classes": 4, "bad_classes": 1, "missing_classes": 0,
    }  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
def test_without_a_budget_its_own_error_ends_the_run(tmp_path: Path, source, harm) -> None:
    with pytest.raises(BadArchive, match=rf"^{WHOLE}: {BAD}\.tar"):
        untarred(fall11(tmp_path, source(TARS | {BAD: HARM[harm]})))


def test_the_offset_of_a_bad_class_tar_is_that_of_its_content(tmp_path: Path) -> None:
    path = whole_tar(tmp_path / WHOLE, TARS | {BAD: b"<html>".ljust(512)})
    receipt, _ = untarred(fall11(tmp_path, path, max_bad_classes=1))
    (noted,) = receipt.facts["bad_classes"]
    assert path.read_bytes()[noted["offset"] :].startswith(b"<html>")


def test_several_bad_ones_are_listed_by_wnid(tmp_path: Path, source) -> None:
    tars = dict(reversed(TARS.items())) | {"n00000005": b"", "n00000002": END}
    receipt, _ = untarred(fall11(tmp_path, source(tars), max_bad_classes=2))
    assert [row["wnid"] for row in receipt.facts["bad_classes"]] == ["n00000002", "n00000005"]


def test_one_more_than_the_budget_names_those_that_were_found(tmp_path: Path, source) -> None:
    tars = TARS | {"n00000002": b"", BAD: END, "n00000005": b""}
    with pytest.raises(BadArchive) as caught:
        untarred(fall11(tmp_path, source(tars), max_bad_classes=2))
    message = str(caught.value)
    assert "more bad class tars than the run allows: expected at most 2" in message
    assert "n00000002.tar, n00000003.tar, n00000005.tar" in message


@pytest.mark.parametrize("cut", [False, True])
def test_an_unsafe_member_is_never_tolerated(tmp_path: Path, source, cut) -> None:
    evil = raw_tar([Entry(b"n00000003_1.JPEG"), Entry(b"../evil")], b"" if cut else END)
    with pytest.raises(UnsafeMember, match="a member's name is unsafe"):
        untarred(fall11(tmp_path, source(TARS | {BAD: evil}), max_bad_classes=5))


def test_a_whole_tar_that_is_cut_off_is_an_error_whatever_the_budget(tmp_path: Path) -> None:
    path = whole_tar(tmp_path / WHOLE, TARS)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(BadArchive, match=f"{WHOLE} is truncated inside n00000005.tar"):
        untarred(fall11(tmp_path, path, max_bad_classes=5))


PUBLISHED = {"images": 15, "classes": 5}


def published(tmp_path, source, budget, **numbers):
    build = fall11(tmp_path, source, expect="published", max_bad_classes=budget)
    return untarred(publishing(build, **PUBLISHED | numbers))[0]


def without(*wnids):
    return {wnid: data for wnid, data in TARS.items() if wnid not in wnids}


def test_the_published_numbers_are_accepted_with_or_without_a_budget(tmp_path, source) -> None:
    archive = source(TARS)
    for budget in (0, 3):
        receipt = published(tmp_path / str(budget), archive, budget)
        assert receipt.facts["published_counts"]
        assert receipt.counts["missing_classes"] == receipt.counts["bad_classes"] == 0


def test_missing_and_bad_class_tars_share_the_budget(tmp_path, source) -> None:
    archive = source(without("n00000001") | {BAD: b""})
    receipt = published(tmp_path / "2", archive, 2)
    assert receipt.counts == {
        "train_images": 9, "classes": 3, "bad_classes": 1, "missing_classes": 1,
    }  # fmt: skip
    assert not receipt.facts["published_counts"]
    with pytest.raises(CountMismatch, match="found 1 missing and 1 bad class tars"):
        published(tmp_path / "1", archive, 1)


def test_a_missing_class_tar_is_an_error_without_a_budget(tmp_path, source) -> None:
    with pytest.raises(CountMismatch, match=r"found {'train': 12} in 4 classes"):
        published(tmp_path, source(without(BAD)), 0)


def test_a_missing_image_is_an_error_whatever_the_budget(tmp_path, source) -> None:
    with pytest.raises(CountMismatch, match=r"expected {'train': 16} in 5 classes, found"):
        published(tmp_path, source(TARS), 3, images=16)


def test_where_classes_lack_there_may_be_no_more_images_than_published(tmp_path, source) -> None:
    archive = source(without(BAD))
    assert published(tmp_path / "12", archive, 1, images=12).counts["classes"] == 4
    with pytest.raises(CountMismatch, match=r"found {'train': 12} in 4 classes"):
        published(tmp_path / "11", archive, 1, images=11)


def test_more_classes_than_published_are_refused(tmp_path, source) -> None:
    with pytest.raises(CountMismatch, match=r"in 4 classes, found {'train': 15} in 5 classes"):
        published(tmp_path, source(TARS), 3, classes=4)


def test_where_no_number_of_images_is_published_classes_alone_are_counted(tmp_path, source) -> None:
    archive = source(TARS)
    receipt = published(tmp_path / "5", archive, 0, images=0)
    assert receipt.facts["published_counts"]
    with pytest.raises(CountMismatch, match="expected images in 6 classes"):
        published(tmp_path / "6", archive, 0, images=0, classes=6)

from dataclasses import replace

import pytest
from tests.support.archives import (
    ARCHIVE,
    ROOT,
    SMALL,
    build_of,
    run_stages,
    tiny_members,
    tiny_zip,
    write_zip,
)

from imagenet_etl.archives.location import archives_of, open_archive
from imagenet_etl.datasets import TINY_IMAGENET, ArchiveFacts
from imagenet_etl.errors import ArchiveChanged, BadArchive, CountMismatch, UnexpectedMember
from imagenet_etl.index import INDEX, SIDE_FILES, member_of
from imagenet_etl.pipeline import run_stage
from imagenet_etl.tables import read_table

TRAIN = "train/n00000001/images/n00000001_0.JPEG"


def untarred(build):
    """Run up to untar; return its receipt and the rows of its two tables."""
    receipts = run_stages(build, "untar")
    tables = [
        read_table(build.storage, receipts["untar"].key_of(name))
        for name in ("images.parquet", "side_files.parquet")
    ]
    return receipts, tables


def test_every_image_is_listed_with_split_class_and_file_name(tmp_path):
    receipts, (images, _) = untarred(build_of(tmp_path, tiny_zip(tmp_path)))
    assert images.schema.equals(INDEX, check_metadata=True)
    found = {
        row["member"]: (row["split"], row["wnid"], row["file_name"]) for row in images.to_pylist()
    }
    expected = {}
    for name in tiny_members(tmp_path):
        if name.endswith(".JPEG"):
            split, *_, file_name = name.removeprefix(f"{ROOT}/").split("/")
            wnid = file_name.split("_")[0] if split == "train" else None
            expected[name] = (split, wnid, file_name)
    assert found == expected
    assert receipts["untar"].counts == {
        "train_images": 12, "val_images": 6, "test_images": SMALL.test, "classes": 3,
    }  # fmt: skip
    assert receipts["untar"].facts == {"published_counts": False, "layouts": {ARCHIVE: "a zip"}}


def test_every_other_file_is_kept_as_a_side_file(tmp_path):
    _, (_, side_files) = untarred(build_of(tmp_path, tiny_zip(tmp_path)))
    assert side_files.schema.equals(SIDE_FILES, check_metadata=True)
    boxes = [f"train/n0000000{n}/n0000000{n}_boxes.txt" for n in (1, 2, 3)]
    assert sorted(row["path"] for row in side_files.to_pylist()) == sorted(
        ["wnids.txt", "words.txt", "val/val_annotations.txt", *boxes]
    )


def test_each_row_leads_to_the_members_bytes(tmp_path):
    build = build_of(tmp_path, tiny_zip(tmp_path))
    members = tiny_members(tmp_path)
    receipts, tables = untarred(build)
    (ref,) = archives_of(receipts["download"]).values()
    with open_archive(build.storage, ref) as archive:
        rows = [row for table in tables for row in table.to_pylist()]
        found = {row["member"]: archive.read(member_of(row)) for row in rows}
    assert found == members


@pytest.mark.parametrize(
    "name",
    [
        "train/readme.txt", "train/n00000001/images/n00000002_9.JPEG", "val/images/val_x.JPEG",
        "train/n1/images/n1_0.JPEG", "train/n00000001/images/n00000001_0.PNG",
        "train/n00000001/images/sub/n00000001_9.JPEG", "val/images/val_1234567.JPEG",
        "val/images/" + "v" * 5000 + ".JPEG",
        # ARABIC-INDIC DIGITs are digits too, for str.isdigit and for \d.
        "val/images/val_\u0661.JPEG", "train/n0000000\u0661/images/n0000000\u0661_0.JPEG",
    ],
    ids=range(10),
)  # fmt: skip
def test_a_member_that_does_not_belong_is_refused_by_name(tmp_path, name):
    build = build_of(tmp_path, tiny_zip(tmp_path, {name: b"x"}))
    with pytest.raises(UnexpectedMember) as caught:
        run_stages(build, "untar")
    message = str(caught.value)
    assert f"{ARCHIVE}: member {ROOT}/" in message
    assert "does not belong to Tiny ImageNet" in message
    assert message.isprintable()


def test_case_collisions_are_refused(tmp_path):
    members = tiny_members(tmp_path)
    members[f"{ROOT}/TRAIN/n00000001/images/n00000001_0.JPEG"] = b"x"
    build = build_of(tmp_path, write_zip(tmp_path / ARCHIVE, members))
    with pytest.raises(UnexpectedMember, match="appears twice: found headers at bytes"):
        run_stages(build, "untar")


def test_an_archive_without_images_is_refused_whatever_is_expected(tmp_path):
    build = build_of(tmp_path, write_zip(tmp_path / ARCHIVE, {f"{ROOT}/wnids.txt": b""}))
    with pytest.raises(CountMismatch, match=r"holds no image. Is it the right archive"):
        run_stages(build, "untar")


def test_what_is_no_zip_is_refused(tmp_path):
    path = tmp_path / ARCHIVE
    path.write_bytes(b"no zip" * 100)
    with pytest.raises(BadArchive, match=rf"{ARCHIVE} is no archive .*found b'no zip"):
        run_stages(build_of(tmp_path, path), "untar")


def with_facts(build, **facts):
    """Return the build with other published facts, and no digest of the archive to check."""
    splits = TINY_IMAGENET.archives[0].splits
    archives = (ArchiveFacts(name=ARCHIVE, url="http://localhost/x", splits=splits),)
    return replace(build, facts=replace(TINY_IMAGENET, archives=archives, **facts))


PUBLISHED = {"expected": {"train": 12, "val": 6, "test": 2}, "classes": 3}


def test_the_published_counts_are_accepted(tmp_path):
    build = build_of(tmp_path, tiny_zip(tmp_path), expect="published")
    receipts, _ = untarred(with_facts(build, **PUBLISHED))
    assert receipts["untar"].facts["published_counts"]


@pytest.mark.parametrize(
    "change",
    [
        {"expected": {"train": 13, "val": 6, "test": 2}},
        {"expected": {"train": 12, "val": 5, "test": 2}},
        {"expected": {"train": 12, "val": 6, "test": 3}},
        {"classes": 4},
    ],
)
def test_other_counts_than_the_published_ones_are_refused(tmp_path, change):
    build = with_facts(
        build_of(tmp_path, tiny_zip(tmp_path), expect="published"), **PUBLISHED | change
    )
    with pytest.raises(CountMismatch) as caught:
        run_stages(build, "untar")
    message = str(caught.value)
    assert "found {'train': 12, 'val': 6, 'test': 2} in 3 classes" in message
    assert str((PUBLISHED | change)["expected"]) in message
    assert "For a sample, run with --expect any" in message


def test_an_archive_that_changes_while_it_is_listed_is_noticed(tmp_path, monkeypatch):
    path = tiny_zip(tmp_path)
    build = build_of(tmp_path, path)
    run_stages(build, "download")
    seen = []

    def listed_then_touched(file, archive):
        from imagenet_etl.archives.zip import list_zip

        for member in list_zip(file, archive):
            yield member
            if not seen:
                seen.append(path.write_bytes(path.read_bytes()))

    monkeypatch.setattr("imagenet_etl.archives.opened.list_zip", listed_then_touched)
    with pytest.raises(ArchiveChanged, match=f"{path} changed since it was verified"):
        run_stage(build, "untar")
    assert seen

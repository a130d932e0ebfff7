"""A folder of class tars in the place of the whole tar."""

from pathlib import Path

import pytest
from tests.support.archives import run_stages
from tests.support.class_tars import (
    ROOT,
    WHOLE,
    fall11,
    few_classes,
    image_tree,
    inner_tars,
    tar_folder,
    untarred,
    whole_tar,
)
from tests.support.tars import ARCHIVE, Entry, raw_tar, train_build, train_tar

from imagenet_etl.archives.location import archives_of, open_archive
from imagenet_etl.errors import UnexpectedMember
from imagenet_etl.index import member_of

CLASSES = few_classes()
TARS = inner_tars(CLASSES)


def identities(rows):
    return [(row["wnid"], row["file_name"], row["size"]) for row in rows]


@pytest.mark.parametrize("root", ["", f"{ROOT}/"])
def test_whole_tar_folder_of_class_tars_and_images_are_one_dataset(tmp_path: Path, root) -> None:
    sources = {
        "whole": whole_tar(tmp_path / WHOLE, TARS, root),
        "folder": tar_folder(tmp_path / "tars", TARS, root),
        "tree": image_tree(tmp_path / "tree", CLASSES, root),
    }
    rows = {
        name: untarred(fall11(tmp_path / f"of {name}", path))[1] for name, path in sources.items()
    }
    assert identities(rows["whole"]) == identities(rows["folder"]) == identities(rows["tree"])
    assert len(rows["whole"]) == 12
    for whole, folder in zip(rows["whole"], rows["folder"], strict=True):
        differing = {name for name in whole if whole[name] != folder[name]}
        assert differing <= {"header_offset", "offset", "check"}
        assert whole["check"] == folder["check"] & 0xFFFFFFFF


def test_what_a_source_turned_out_to_be_is_noted(tmp_path: Path) -> None:
    receipt, _ = untarred(fall11(tmp_path, tar_folder(tmp_path / "tars", TARS)))
    assert receipt.facts["layouts"] == {WHOLE: "a folder of class tars"}
    assert receipt.counts["train_images"] == 12


@pytest.mark.parametrize("root", ["", f"{ROOT}/"])
def test_every_row_leads_to_the_images_bytes(tmp_path: Path, root) -> None:
    build = fall11(tmp_path, tar_folder(tmp_path / "tars", TARS, root))
    _, rows = untarred(build)
    (ref,) = archives_of(run_stages(build, "download")["download"]).values()
    with open_archive(build.storage, ref) as archive:
        for row in rows:
            archive.will_need([member_of(row)])
            assert archive.read(member_of(row)) == CLASSES[row["wnid"]][row["file_name"]]
        archive.check()


def test_read_ahead_asks_for_the_members_own_range(tmp_path: Path, monkeypatch) -> None:
    build = fall11(tmp_path, tar_folder(tmp_path / "tars", TARS))
    _, rows = untarred(build)
    (ref,) = archives_of(run_stages(build, "download")["download"]).values()
    asked = []
    monkeypatch.setattr(
        "imagenet_etl.storage.local.os.posix_fadvise", lambda *args: asked.append(args[1:3])
    )
    with open_archive(build.storage, ref) as archive:
        archive.will_need([member_of(rows[1])])
    assert asked == [(rows[1]["header_offset"], 512 + rows[1]["size"])]


def test_equal_file_names_in_two_class_tars_are_two_images(tmp_path: Path) -> None:
    stray = {"n00000009_1.JPEG": b"x" * 30}  # bears the id of another class, as some files do
    tars = inner_tars({"n00000001": stray, "n00000002": stray})
    for name, source in {
        "whole": whole_tar(tmp_path / WHOLE, tars),
        "folder": tar_folder(tmp_path / "tars", tars),
    }.items():
        _, rows = untarred(fall11(tmp_path / name, source))
        assert [row["wnid"] for row in rows] == ["n00000001", "n00000002"]


def test_a_name_twice_in_one_class_tar_of_a_folder_is_refused(tmp_path: Path) -> None:
    twice = raw_tar([Entry(b"n00000001_1.JPEG"), Entry(b"n00000001_1.jpeg")])
    folder = tar_folder(tmp_path / "tars", TARS | {"n00000001": twice})
    with pytest.raises(UnexpectedMember, match=r"n00000001.tar/n00000001_1.jpeg appears twice"):
        untarred(fall11(tmp_path, folder))


def test_a_strange_member_of_a_class_tar_is_named_with_its_byte_there(tmp_path: Path) -> None:
    tars = inner_tars({"n00000001": {"n00000001_1.JPEG": b"x", "odd.txt": b"y"}})
    with pytest.raises(UnexpectedMember, match=r"n00000001.tar/odd.txt .* header at byte 1024"):
        untarred(fall11(tmp_path, tar_folder(tmp_path / "tars", tars)))


def test_class_folders_beside_class_tars_are_refused(tmp_path: Path) -> None:
    folder = tar_folder(tmp_path / "tars", TARS)
    image_tree(folder, few_classes(6, 1) | {"n00000008": {"n00000008_1.JPEG": b"x"}})
    with pytest.raises(UnexpectedMember, match="mixes two layouts"):
        untarred(fall11(tmp_path, folder))


def test_ilsvrc2012_packs_the_same_records_from_a_folder_of_class_tars(tmp_path: Path) -> None:
    records = []
    for name, source in {
        "tar": train_tar(tmp_path / ARCHIVE, CLASSES),
        "folder": tar_folder(tmp_path / "tars", TARS),
    }.items():
        run_stages(train_build(tmp_path / name, source), "pack")
        paths = sorted((tmp_path / name / "data").rglob("*.rec"))
        records.append([path.read_bytes() for path in paths])
    assert records[0] == records[1]
    assert sum(map(len, records[0])) > 1000

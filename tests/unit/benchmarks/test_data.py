import io
import tarfile
from pathlib import PurePosixPath

import pytest
from benchmarks import compare, data, many, recipe
from benchmarks.measure import run
from PIL import Image

from imagenet_etl.labels.devkit import parse_meta


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Keep archives out of the project and the 500 real images out of the tests."""
    monkeypatch.setattr(data, "DATA", tmp_path / "data")
    monkeypatch.setattr(many, "DATA", tmp_path / "data")
    monkeypatch.setattr(data, "SAMPLES", tmp_path / "absent")
    monkeypatch.setattr(data, "_IMAGES", 3)
    return tmp_path


def members(path):
    """Return the class of each class tar and what it holds."""
    found = {}
    with tarfile.open(path) as outer:
        for member in outer:
            content = io.BytesIO(outer.extractfile(member).read())
            with tarfile.open(fileobj=content) as inner:
                found[member.name] = {m.name: inner.extractfile(m).read() for m in inner}
    return found


def test_the_archive_is_a_tar_of_class_tars_with_copies_of_each_image(folder):
    built = data.train_tar(2)
    found = members(built.path)
    assert built.images == 6
    assert list(found) == ["n00000001.tar", "n00000002.tar", "n00000003.tar"]
    assert list(found["n00000002.tar"]) == ["n00000002_1.JPEG", "n00000002_2.JPEG"]
    assert len({image for images in found.values() for image in images.values()}) == 3
    for images in found.values():
        assert min(Image.open(io.BytesIO(images.popitem()[1])).size) >= 300


def test_a_validation_archive_lies_beside_it_with_its_devkit(folder):
    alone = data.train_tar(20)
    whole = data.with_val(alone)
    assert (alone.images, whole.images) == (60, 62)
    assert [path.name for path in whole.others] == [data.VAL, data.DEVKIT]
    with tarfile.open(whole.others[0]) as val:
        names = val.getnames()
    assert names == ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]
    with tarfile.open(whole.others[1]) as kit:
        read = {PurePosixPath(m.name).name: kit.extractfile(m).read() for m in kit}
    assert read["ILSVRC2012_validation_ground_truth.txt"] == b"3\n2\n"
    wnids = {synset.id: synset.wnid for synset in parse_meta(read["meta.mat"])}
    assert wnids == {1: "n00000003", 2: "n00000002", 3: "n00000001"}


def test_the_archives_beside_it_are_kept_too(folder):
    others = data.with_val(data.train_tar(1)).others
    before = [path.stat().st_mtime_ns for path in others]
    again = data.with_val(data.train_tar(1)).others
    assert [path.stat().st_mtime_ns for path in again] == before


def test_an_archive_that_is_there_is_kept(folder):
    path = data.train_tar(1).path
    before = path.stat().st_mtime_ns
    assert data.train_tar(1).path.stat().st_mtime_ns == before


def test_hand_made_headers_are_read_by_tarfile(folder):
    path = many.many_members("few", 2000, [b"", b"a", bytes(512), b"x" * 513])
    found = members(path)
    assert list(found) == ["n00000001.tar", "n00000002.tar"]
    assert list(found["n00000002.tar"].items())[:3] == [
        ("n00000002_1000.JPEG", b""),
        ("n00000002_1001.JPEG", b"a"),
        ("n00000002_1002.JPEG", bytes(512)),
    ]
    assert {len(images) for images in found.values()} == {1000}


def test_the_recipe_scatters_the_archive_into_class_folders(folder):
    run(recipe.untar(data.train_tar(2).path, folder / "run"))
    train = folder / "run/train"
    names = sorted(
        path.relative_to(train).as_posix() for path in train.rglob("*") if path.is_file()
    )
    assert names == [f"n{c:08d}/n{c:08d}_{k}.JPEG" for c in (1, 2, 3) for k in (1, 2)]


def test_the_recipe_sorts_the_validation_images_by_class(folder):
    tar = data.with_val(data.train_tar(25))
    (folder / "run").mkdir()
    run(recipe.imagefolder(tar.path, folder / "run"))
    val = folder / "run/val"
    assert sorted(path.relative_to(val).as_posix() for path in val.rglob("*.*")) == [
        f"n{n:08d}/ILSVRC2012_val_{n:08d}.JPEG" for n in (1, 2, 3)
    ]
    assert recipe.count_images(folder / "run") == tar.images == 78


def test_images_outside_class_folders_do_not_count(tmp_path):
    for name in ("train/n00000001/a.JPEG", "val/b.JPEG", "train/n00000001.tar", "val/meta.bin"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert recipe.count_images(tmp_path) == 1


def test_both_sides_of_the_row_of_image_folder_give_the_same_files(folder):
    tar = data.with_val(data.train_tar(1))
    found = []
    row = compare.COMPARISONS["imagefolder"]
    for side in (row.peer, row.ours):
        place = folder / f"{len(found)}"
        place.mkdir()
        run(side.job(tar.path, place))
        assert side.count(place) == tar.images == 4
        found.append({
            f"{path.parts[-3]}/{path.parts[-2]}/{path.name}": path.read_bytes()
            for path in place.rglob("n0*/*.JPEG")
        })  # fmt: skip
    assert found[0] == found[1]

import io
import tarfile

import pytest
from benchmarks import data, many, recipe
from benchmarks.measure import run
from PIL import Image


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


def test_an_archive_that_is_there_is_kept(folder):
    path = data.train_tar(1).path
    before = path.stat()
    assert data.train_tar(1).path.stat() == before


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

import io
import tarfile
import zipfile

import pytest
from PIL import Image
from tests.support.archives import encoded, picture

from imagenet_etl.datasets import DATASETS, TINY_IMAGENET
from imagenet_etl.errors import ConfigError
from imagenet_etl.samples import SAMPLES, SampleSize
from imagenet_etl.samples.tiny_imagenet import build_tiny_imagenet

SIZE = SampleSize(classes=2, train=3, val=2, test=1)
NEEDED = SIZE.labelled + SIZE.test


def sample(path, images=None, size=SIZE, **options):
    build_tiny_imagenet(path, images, size, **options)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {i.filename: archive.read(i) for i in archive.infolist() if not i.is_dir()}


def photographs(count):
    """Return files as a photographer would leave them: all sizes, some grey, some not images."""
    files = {
        f"n0000777{n % 2}/{n:03d}.{'jpg' if n % 3 else 'JPEG'}": encoded(
            picture(70 + n, 90, "L" if n % 4 == 3 else "RGB", seed=n)
        )
        for n in range(count)
    }
    return files | {"n00007770/notes.txt": b"no image"}


@pytest.fixture(params=["folder", "tar", "tar.gz"])
def source(request, tmp_path):
    """Write files as a folder or tar and return its path."""

    def write(files):
        if request.param == "folder":
            for name, data in files.items():
                path = tmp_path / "images" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return tmp_path / "images"
        path = tmp_path / f"images.{request.param}"
        with tarfile.open(path, "w:gz" if request.param.endswith("gz") else "w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return write


@pytest.mark.parametrize("stored", [False, True])
def test_the_same_call_gives_the_same_bytes(tmp_path, stored):
    for name in ("one.zip", "two.zip"):
        build_tiny_imagenet(tmp_path / name, None, SIZE, stored=stored)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    kinds = {
        i.compress_type for i in zipfile.ZipFile(tmp_path / "one.zip").infolist() if i.file_size
    }
    assert kinds == {zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED}


def test_the_layout_is_the_datasets_own(tmp_path):
    layout, counts = TINY_IMAGENET.layout, dict.fromkeys(TINY_IMAGENET.layout.images, 0)
    side_files = set()
    for name in sample(tmp_path / "s.zip"):
        splits = [split for split, p in layout.images.items() if p.fullmatch(name)]
        side_file = layout.side_files.fullmatch(name)
        assert len(splits) + bool(side_file) == 1, name
        if side_file:
            side_files.add(side_file["path"])
        else:
            counts[splits[0]] += 1
    assert counts == {"train": 6, "val": 4, "test": 1}
    boxes = {f"train/n0000000{n}/n0000000{n}_boxes.txt" for n in (1, 2)}
    assert side_files == {"wnids.txt", "words.txt", "val/val_annotations.txt"} | boxes


def test_generated_images_are_distinct_and_of_the_datasets_size(tmp_path):
    images = [data for name, data in sample(tmp_path / "s.zip").items() if name.endswith(".JPEG")]
    assert len(set(images)) == NEEDED
    for data in images:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))


def test_images_are_taken_from_a_folder_or_tar_with_their_classes(tmp_path, source):
    members = sample(tmp_path / "s.zip", source(photographs(NEEDED + 3)))
    images = [data for name, data in members.items() if name.endswith(".JPEG")]
    assert len(set(images)) == NEEDED
    assert all(Image.open(io.BytesIO(data)).size == (64, 64) for data in images)
    assert members["tiny-imagenet-200/wnids.txt"] == b"n00007771\nn00007770\n"


def test_missing_classes_are_made_up_without_repeating_a_found_one(tmp_path, source):
    files = {
        f"n00000002/{n}.jpg": data for n, data in enumerate(photographs(60).values()) if n < 60
    }
    size = SampleSize(classes=4, train=2, val=1, test=0)
    members = sample(tmp_path / "s.zip", source(files), size)
    wnids = members["tiny-imagenet-200/wnids.txt"].decode().split()
    assert sorted(wnids) == ["n00000001", "n00000002", "n00000003", "n00000004"]


def test_too_few_images_are_refused_and_nothing_is_written(tmp_path, source):
    path = source(photographs(NEEDED - 1))
    with pytest.raises(ConfigError, match=f"too few JPEGs: expected {NEEDED}, found {NEEDED - 1}"):
        build_tiny_imagenet(tmp_path / "s.zip", path, SIZE)
    assert not (tmp_path / "s.zip").exists()


def test_an_undecodable_image_is_named(tmp_path, source):
    path = source(photographs(NEEDED) | {"n00007770/000.JPEG": b"broken"})
    with pytest.raises(ConfigError, match=r"n00007770/000\.JPEG cannot be decoded"):
        build_tiny_imagenet(tmp_path / "s.zip", path, SIZE)


@pytest.mark.parametrize("content", [None, b"no tar at all", b""])
def test_a_source_that_is_missing_or_no_tar_is_refused(tmp_path, content):
    path = tmp_path / "images.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"images\.tar: expected a folder or tar of JPEGs"):
        build_tiny_imagenet(tmp_path / "s.zip", path, SIZE)


@pytest.mark.parametrize("size", [(0, 1, 1, 0), (1, 0, 1, 0), (1, 1, 0, 0), (1, 1, 1, -1)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ConfigError, match="1 or more of each"):
        SampleSize(*size)


def test_another_layout_is_refused_for_a_set_that_has_one(tmp_path):
    with pytest.raises(ConfigError, match="--layout has no effect on a sample of tiny_imagenet"):
        build_tiny_imagenet(tmp_path / "s.zip", None, SIZE, layout="tree")
    assert list(tmp_path.iterdir()) == []


def test_there_is_a_sample_for_every_dataset():
    assert SAMPLES.keys() == DATASETS.keys()

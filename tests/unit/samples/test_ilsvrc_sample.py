import hashlib
import io
import subprocess
import sys
import tarfile

import pytest
from PIL import Image
from tests.support.archives import encoded, picture, run_stages
from tests.support.tars import ARCHIVE, train_build

from imagenet_etl.cli import main
from imagenet_etl.errors import ConfigError, KeyExists
from imagenet_etl.samples import SampleSize
from imagenet_etl.samples.ilsvrc2012 import build_ilsvrc2012

SIZE = SampleSize(classes=2, train=3, test=0)


def sample(path, images=None, size=SIZE):
    """Build a sample; return its images by class tar and name, read by another tar reader."""
    build_ilsvrc2012(path, images, size)
    found = {}
    with tarfile.open(path, "r:") as archive:
        for outer in archive:
            with tarfile.open(fileobj=archive.extractfile(outer), mode="r:") as class_tar:
                for inner in class_tar:
                    found[outer.name, inner.name] = class_tar.extractfile(inner).read()
    return found


def photographs(folder, count):
    """Write JPEGs of all sizes below class folders, with some that are no images."""
    files = {}
    for n in range(count):
        path = folder / f"n0000777{n % 2}" / f"{n:03d}.{'jpg' if n % 3 else 'JPEG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        files[path.name] = encoded(picture(70 + n, 90, seed=n))
        path.write_bytes(files[path.name])
    (folder / "notes.txt").write_text("no image")
    return files


def test_the_layout_is_a_tar_of_class_tars(tmp_path):
    assert list(sample(tmp_path / "s.tar")) == [
        (f"n0000000{c}.tar", f"n0000000{c}_{k}.JPEG") for c in (1, 2) for k in range(3)
    ]


def test_the_same_call_gives_the_same_bytes_in_another_process(tmp_path):
    build_ilsvrc2012(tmp_path / "one.tar", None, SIZE)
    arguments = ["sample", "ilsvrc2012", "--classes", "2", "--train", "3"]
    subprocess.run(
        [sys.executable, "-m", "imagenet_etl", *arguments, "--out", tmp_path / "two.tar"],
        check=True,
    )
    digests = {
        hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("one.tar", "two.tar")
    }
    assert len(digests) == 1


def test_generated_images_are_distinct_and_of_many_sizes(tmp_path):
    images = sample(tmp_path / "s.tar", size=SampleSize(classes=2, train=8))
    sizes = set()
    for data in images.values():
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            sizes.add(image.size)
    assert len(set(images.values())) == 16
    assert len(sizes) > 10
    assert all(300 <= edge <= 600 for size in sizes for edge in size)


def test_given_images_are_taken_byte_for_byte(tmp_path):
    files = photographs(tmp_path / "images", 8)
    images = sample(tmp_path / "s.tar", tmp_path / "images")
    assert len(set(images.values())) == 6
    assert set(images.values()) <= set(files.values())
    assert {wnid for wnid, _ in images} == {"n00007770.tar", "n00007771.tar"}


def test_too_few_images_are_refused_and_nothing_is_written(tmp_path):
    photographs(tmp_path / "images", 5)
    with pytest.raises(ConfigError, match="too few JPEGs: expected 6, found 5"):
        build_ilsvrc2012(tmp_path / "s.tar", tmp_path / "images", SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


def test_an_undecodable_image_is_named_and_nothing_is_written(tmp_path):
    photographs(tmp_path / "images", 8)
    (tmp_path / "images/n00007770/000.JPEG").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"n00007770/000\.JPEG cannot be decoded"):
        build_ilsvrc2012(tmp_path / "s.tar", tmp_path / "images", SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


@pytest.mark.parametrize(
    ("option", "size", "stored"),
    [("--val", {"val": 5}, False), ("--test", {"test": 1}, False), ("--stored", {}, True)],
)
def test_what_a_tar_of_training_images_cannot_have_is_refused(tmp_path, option, size, stored):
    with pytest.raises(ConfigError, match=f"{option} has no effect on a sample of ilsvrc2012"):
        build_ilsvrc2012(tmp_path / "s.tar", None, SampleSize(2, 3, **size), stored=stored)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_which_option_it_cannot_honour(tmp_path, capsys):
    out = tmp_path / "s.tar"
    assert main(["sample", "ilsvrc2012", "--val", "7", "--out", str(out)]) != 0
    assert "error: --val has no effect on a sample of ilsvrc2012" in capsys.readouterr().err
    assert not out.exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "s.tar").write_bytes(b"mine")
    with pytest.raises(KeyExists):
        build_ilsvrc2012(tmp_path / "s.tar", None, SIZE)
    assert (tmp_path / "s.tar").read_bytes() == b"mine"


def test_the_stages_accept_it(tmp_path):
    sample(tmp_path / ARCHIVE)
    receipts = run_stages(train_build(tmp_path, tmp_path / ARCHIVE), "restructure_val")
    assert receipts["untar"].counts == {"train_images": 6, "classes": 2}
    wnids = [wnid for wnid, _ in receipts["restructure_val"].facts["classes"]]
    assert wnids == ["n00000001", "n00000002"]

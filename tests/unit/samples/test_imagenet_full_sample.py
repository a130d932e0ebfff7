"""Miniatures of fall11 and winter21."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile

import pytest
from PIL import Image
from tests.support.archives import encoded, picture

from imagenet_etl.cli import main
from imagenet_etl.datasets import IMAGENET_FALL11, IMAGENET_WINTER21
from imagenet_etl.errors import ConfigError, KeyExists
from imagenet_etl.samples import FALL11_LAYOUTS, SAMPLES, WINTER21_LAYOUTS, SampleSize
from imagenet_etl.samples.imagenet_full import build_imagenet_full, file_names, long_tail

LAYOUTS = (*FALL11_LAYOUTS, "whole-gz")
SIZES = {"n00000007": 5, "n00000003": 1, "n00000009": 3}
SIZE = SampleSize(classes=4, train=9)


def tar_members(data):
    """Return what a tar holds by name, that of class tars by ``<class tar>/<name>``."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if member.isdir():
                continue
            content = tar.extractfile(member).read()
            if member.name.endswith(".tar"):
                found |= {f"{member.name}/{name}": d for name, d in tar_members(content).items()}
            else:
                found[member.name] = content
    return found


def members(path, layout):
    """Return the members of a sample by their names in the archive, in its order."""
    if layout == "whole":
        return tar_members(path.read_bytes())
    if layout == "whole-gz":
        return tar_members(gzip.decompress(path.read_bytes()))
    files = {f.relative_to(path).as_posix(): f.read_bytes() for f in sorted(path.rglob("*.*"))}
    if layout == "tree":
        return files
    return {f"{tar}/{name}": d for tar, data in files.items()
            for name, d in tar_members(data).items()}  # fmt: skip


def images(path, layout):
    """Return the images by class and file name."""
    return {
        name.removeprefix("winter21_whole/").replace(".tar/", "/"): data
        for name, data in members(path, layout).items()
    }


def digest(path):
    found = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*.*")):
        found.update(file.relative_to(path).as_posix().encode() + file.read_bytes())
    return found.hexdigest()


def photographs(folder, count):
    files = {}
    for n in range(count):
        path = folder / f"n0000777{n % 2}" / f"{n:03d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        files[path.name] = encoded(picture(70 + n, 90, seed=n))
        path.write_bytes(files[path.name])
    return files


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_class_has_exactly_the_images_that_were_asked_for(tmp_path, layout):
    truth = build_imagenet_full(tmp_path / "s", None, SIZES, layout=layout)
    assert truth.sizes == SIZES
    assert truth.images == 9
    expected = {f"{wnid}/{name}" for wnid in SIZES for name in truth.file_names(wnid)}
    assert images(tmp_path / "s", layout).keys() == expected


def test_a_whole_tar_holds_class_tars_in_order_with_numbers_in_none(tmp_path):
    truth = build_imagenet_full(tmp_path / "s", None, SIZES, layout="whole")
    names = list(members(tmp_path / "s", "whole"))
    assert names == [f"{w}.tar/{name}" for w in SIZES for name in truth.file_names(w)]
    assert names[:5] != sorted(names[:5])


def test_winter21s_tar_is_gzipped_and_has_a_folder_around_its_class_tars(tmp_path):
    build_imagenet_full(tmp_path / "s", None, SIZES, layout="whole-gz")
    with tarfile.open(tmp_path / "s", "r:gz") as tar:
        folder, *tars = tar.getmembers()
    assert folder.isdir()
    assert [folder.name, *(t.name for t in tars)] == [
        "winter21_whole", *(f"winter21_whole/{wnid}.tar" for wnid in SIZES)
    ]  # fmt: skip


@pytest.mark.parametrize("given", [False, True])
def test_all_layouts_hold_the_same_images_under_the_same_names(tmp_path, given):
    photographs(tmp_path / "images", 12)
    source = tmp_path / "images" if given else None
    for layout in LAYOUTS:
        build_imagenet_full(tmp_path / layout, source, SIZES, layout=layout)
    found = [images(tmp_path / layout, layout) for layout in LAYOUTS]
    assert len(set(found[0].values())) == 9
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("facts", [IMAGENET_FALL11, IMAGENET_WINTER21])
def test_its_names_are_those_of_the_datasets_layout(tmp_path, layout, facts):
    build_imagenet_full(tmp_path / "s", None, SIZES, layout=layout)
    for name in members(tmp_path / "s", layout):
        assert facts.layout.images["train"].fullmatch(name), name
        if layout != "tree":
            assert facts.layout.class_tars.fullmatch(name.rpartition("/")[0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_call_gives_the_same_bytes_in_another_process(tmp_path, layout):
    build_imagenet_full(tmp_path / "one", None, [4, 2], layout=layout)
    code = (
        "import sys; from pathlib import Path; from imagenet_etl.samples import *;"
        "build_imagenet_full(Path(sys.argv[1]), None, [4, 2], layout=sys.argv[2])"
    )
    # The time of day, the time zone and the seed of hashes must not show.
    away = {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "two", layout], check=True, env=os.environ | away
    )
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_generated_images_are_small_distinct_jpegs(tmp_path):
    build_imagenet_full(tmp_path / "s", None, [300], edge=16)
    found = list(images(tmp_path / "s", "whole").values())
    assert len(set(found)) == 300
    for data in found:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (16, 16))


def test_given_images_are_taken_byte_for_byte_with_their_classes(tmp_path):
    files = photographs(tmp_path / "images", 8)
    truth = build_imagenet_full(tmp_path / "s", tmp_path / "images", [3, 2, 1])
    assert list(truth.sizes) == ["n00000001", "n00007770", "n00007771"]
    assert set(images(tmp_path / "s", "whole").values()) <= set(files.values())


def test_too_few_images_are_refused_and_nothing_is_written(tmp_path):
    photographs(tmp_path / "images", 8)
    with pytest.raises(ConfigError, match="too few JPEGs: expected 9, found 8"):
        build_imagenet_full(tmp_path / "s", tmp_path / "images", SIZES)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("sizes", [[], {}, [-1], [3, -2], [10_000_000], {"n1": 3}, {"../x": 3}])
def test_impossible_sizes_are_refused(tmp_path, sizes):
    with pytest.raises(ConfigError, match="of a sample"):
        build_imagenet_full(tmp_path / "s", None, sizes)
    assert list(tmp_path.iterdir()) == []


def test_a_class_may_be_empty(tmp_path):
    build_imagenet_full(tmp_path / "s", None, {"n00000001": 0, "n00000002": 1})
    with tarfile.open(tmp_path / "s") as tar:
        assert tar.getnames() == ["n00000001.tar", "n00000002.tar"]


def test_sizes_have_a_long_tail():
    sizes = sorted(long_tail(60, 800), reverse=True)
    assert (sizes[0], sizes[-1]) == (800, 20)
    assert sizes[30] < 800 / 10
    assert long_tail(60, 800) != sizes
    assert long_tail(1, 7) == [7]
    assert min(long_tail(20, 3)) == 1


@pytest.mark.parametrize("size", [1, 2, 3047, 20_000])
def test_file_names_are_distinct(size):
    assert len(set(file_names("n09999999", size))) == size


@pytest.mark.parametrize(
    ("dataset", "layout"),
    [("imagenet_fall11", layout) for layout in FALL11_LAYOUTS]
    + [("imagenet_winter21", layout) for layout in WINTER21_LAYOUTS],
)
def test_the_command_builds_every_layout(tmp_path, dataset, layout):
    out = tmp_path / "s"
    options = ["--classes", "4", "--train", "9", "--layout", layout]
    assert main(["sample", dataset, "--out", str(out), *options]) == 0
    form = "whole-gz" if (dataset, layout) == ("imagenet_winter21", "whole") else layout
    wnids = [name.split("/")[0] for name in images(out, form)]
    assert sorted(map(wnids.count, set(wnids))) == sorted(long_tail(4, 9))


@pytest.mark.parametrize("dataset", ["imagenet_fall11", "imagenet_winter21"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--val", "7"], "--val has no effect on a sample of"),
        (["--test", "7"], "--test has no effect on a sample of"),
        (["--stored"], "--stored has no effect on a sample of"),
        (["--layout", "kaggle"], "--layout kaggle: expected one of whole, class-tars"),
        (["--train", "0"], "1 or more of each"),
    ],
)
def test_the_command_says_which_option_it_cannot_honour(tmp_path, capsys, dataset, options, told):
    assert main(["sample", dataset, "--out", str(tmp_path / "s"), *options]) != 0
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_winter21_is_not_offered_as_a_tree(tmp_path):
    with pytest.raises(ConfigError, match="--layout tree: expected one of whole, class-tars"):
        SAMPLES["imagenet_winter21"](tmp_path / "s", None, SIZE, layout="tree")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_overwritten(tmp_path, layout):
    (tmp_path / "s").write_bytes(b"mine")
    with pytest.raises(KeyExists):
        build_imagenet_full(tmp_path / "s", None, SIZES, layout=layout)
    assert (tmp_path / "s").read_bytes() == b"mine"

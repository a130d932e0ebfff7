import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from tests.support.archives import encoded, picture, run_stages
from tests.support.tars import train_build

from imagenet_etl.cli import main
from imagenet_etl.errors import ConfigError, KeyExists
from imagenet_etl.samples import LAYOUTS, SampleSize
from imagenet_etl.samples.ilsvrc2012 import DEVKIT, TRAIN, VAL, build_ilsvrc2012

SIZE = SampleSize(classes=2, train=3, val=2, test=0)
NEEDED = SIZE.labelled
VAL_NAMES = [f"ILSVRC2012_val_0000000{n}.JPEG" for n in (1, 2, 3, 4)]
KAGGLE_IMAGES = "ILSVRC/Data/CLS-LOC"


def files_below(path):
    """Return the content of a folder or zip by name."""
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}
    found = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}


def files_in(tar, mode="r:"):
    """Return the content of a tar by name, that of tars in it by ``<tar>/<name>``."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode=mode) as archive:
        for member in archive:
            file = archive.extractfile(member)
            data = file.read() if file else None
            if member.name.endswith(".tar"):
                inner = files_in(data).items()
                found |= {f"{member.name}/{name}": content for name, content in inner}
            elif data is not None:
                found[member.name] = data
    return found


def images_of(path, layout):
    """Return the labelled images of a sample by file name, whatever its layout."""
    files = files_below(path)
    if layout == "archives":
        files = files_in(files[TRAIN]) | files_in(files[VAL])
    named = {Path(name).name: data for name, data in files.items()}
    return {
        name: data
        for name, data in named.items()
        if name.endswith(".JPEG") and not name.startswith("ILSVRC2012_test")
    }


def sample(path, images=None, size=SIZE, **options):
    build_ilsvrc2012(path, images, size, **options)
    return files_below(path)


def digest(path):
    digest = hashlib.sha256()
    for name, data in files_below(path).items():
        digest.update(f"{name} {len(data)} ".encode() + data)
    return digest.hexdigest()


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


def test_archives_are_the_three_files_of_the_publisher(tmp_path):
    files = sample(tmp_path / "s")
    assert sorted(files) == sorted([TRAIN, VAL, DEVKIT])
    assert list(files_in(files[TRAIN])) == [
        f"n0000000{c}.tar/n0000000{c}_{k}.JPEG" for c in (1, 2) for k in range(3)
    ]
    assert list(files_in(files[VAL])) == VAL_NAMES
    assert list(files_in(files[DEVKIT], "r:gz")) == [
        f"ILSVRC2012_devkit_t12/{name}"
        for name in ("readme.txt", "COPYING", "data/meta.mat",
                     "data/ILSVRC2012_validation_ground_truth.txt")
    ]  # fmt: skip


def test_a_tree_has_flat_validation_images_and_the_devkit_of_the_archives(tmp_path):
    files = sample(tmp_path / "tree", layout="tree")
    kit = files_in(sample(tmp_path / "archives")[DEVKIT], "r:gz")
    images = [f"train/n0000000{c}/n0000000{c}_{k}.JPEG" for c in (1, 2) for k in range(3)]
    assert sorted(files) == sorted(images + [f"val/{name}" for name in VAL_NAMES] + list(kit))
    assert {name: files[name] for name in kit} == kit


def test_a_tree_by_class_has_each_validation_image_in_its_class(tmp_path):
    truth = build_ilsvrc2012(tmp_path / "s", None, SIZE, layout="tree-by-class")
    files = files_below(tmp_path / "s")
    assert {name for name in files if name.startswith("val/")} == {
        f"val/{wnid}/{name}" for name, wnid in truth.val.items()
    }
    assert {name.split("/")[0] for name in files} == {"train", "val"}


def test_kaggles_tree_has_its_images_boxes_lists_and_labels(tmp_path):
    files = sample(tmp_path / "s", size=SampleSize(2, 3, 2, 5), layout="kaggle")
    stems = {
        **{f"train/n0000000{c}/n0000000{c}_{k}": 1 for c in (1, 2) for k in range(3)},
        **{f"val/{name.removesuffix('.JPEG')}": 1 for name in VAL_NAMES},
        **{f"test/ILSVRC2012_test_0000000{n}": 0 for n in range(1, 6)},
    }
    boxes = {f"ILSVRC/Annotations/CLS-LOC/{stem}.xml" for stem, boxed in stems.items() if boxed}
    lists = {
        f"ILSVRC/ImageSets/CLS-LOC/{name}.txt" for name in ("train_cls", "train_loc", "val", "test")
    }
    tables = {
        "LOC_train_solution.csv", "LOC_val_solution.csv", "LOC_sample_submission.csv",
        "LOC_synset_mapping.txt",
    }  # fmt: skip
    assert set(files) == {f"{KAGGLE_IMAGES}/{stem}.JPEG" for stem in stems} | boxes | lists | tables
    lines = {name: len(data.splitlines()) for name, data in files.items() if name in tables | lists}
    assert sorted(lines.values()) == sorted([2, 7, 5, 6, 6, 6, 4, 5])


@pytest.mark.parametrize("stored", [False, True])
def test_kaggles_zip_holds_kaggles_tree(tmp_path, stored):
    size = SampleSize(2, 3, 2, 5)
    tree = sample(tmp_path / "s", size=size, layout="kaggle")
    assert sample(tmp_path / "s.zip", size=size, layout="kaggle-zip", stored=stored) == tree
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        kinds = {info.compress_type for info in archive.infolist()}
    assert kinds == {zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED}


@pytest.mark.parametrize("given", [False, True])
def test_all_layouts_hold_the_same_images_under_the_same_names(tmp_path, given):
    photographs(tmp_path / "images", NEEDED + 6)
    images = tmp_path / "images" if given else None
    size, truths, found = SampleSize(2, 3, 2, 0), [], []
    for layout in LAYOUTS:
        truths.append(build_ilsvrc2012(tmp_path / layout, images, size, layout=layout))
        found.append(images_of(tmp_path / layout, layout))
    assert len(found[0]) == len(set(found[0].values())) == NEEDED
    assert all(other == found[0] for other in found)
    assert all(other == truths[0] for other in truths)


def test_unlabelled_images_change_no_class_and_no_other_image(tmp_path):
    photographs(tmp_path / "images", 15)
    for n in range(8):
        path = tmp_path / f"images/n00009999/{n}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(picture(50, 40, seed=n)))
    few, more = SampleSize(3, 3, 2, 0), SampleSize(3, 3, 2, 8)
    plain = build_ilsvrc2012(tmp_path / "s", tmp_path / "images", few, layout="tree")
    truth = build_ilsvrc2012(tmp_path / "k", tmp_path / "images", more, layout="kaggle")
    assert truth == plain
    assert images_of(tmp_path / "k", "kaggle") == images_of(tmp_path / "s", "tree")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_call_gives_the_same_bytes_in_another_process(tmp_path, layout):
    build_ilsvrc2012(tmp_path / "one", None, SIZE, layout=layout)
    code = (
        "import sys; from pathlib import Path; from imagenet_etl.samples import *;"
        "SAMPLES['ilsvrc2012'](Path(sys.argv[1]), None, SampleSize(2, 3, 2, 0), layout=sys.argv[2])"
    )
    # The time of day, the time zone and the seed of hashes must not show.
    away = {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "two", layout], check=True, env=os.environ | away
    )
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_generated_images_are_distinct_and_of_many_sizes(tmp_path):
    build_ilsvrc2012(tmp_path / "s", None, SampleSize(classes=2, train=8))
    images = images_of(tmp_path / "s", "archives")
    sizes = set()
    for data in images.values():
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            sizes.add(image.size)
    assert len(set(images.values())) == 24
    assert len(sizes) > 15
    assert all(300 <= edge <= 600 for size in sizes for edge in size)


def test_given_images_are_taken_byte_for_byte(tmp_path):
    files = photographs(tmp_path / "images", NEEDED + 2)
    truth = build_ilsvrc2012(tmp_path / "s", tmp_path / "images", SIZE)
    images = images_of(tmp_path / "s", "archives")
    assert len(set(images.values())) == NEEDED
    assert set(images.values()) <= set(files.values())
    assert set(truth.val.values()) == {"n00007770", "n00007771"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_too_few_images_are_refused_and_nothing_is_written(tmp_path, layout):
    photographs(tmp_path / "images", NEEDED - 1)
    with pytest.raises(ConfigError, match=f"too few JPEGs: expected {NEEDED}, found {NEEDED - 1}"):
        build_ilsvrc2012(tmp_path / "s", tmp_path / "images", SIZE, layout=layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_undecodable_image_is_named_and_nothing_is_written(tmp_path, layout):
    photographs(tmp_path / "images", NEEDED)
    (tmp_path / "images/n00007771/009.JPEG").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"n00007771/009\.JPEG cannot be decoded"):
        build_ilsvrc2012(tmp_path / "s", tmp_path / "images", SIZE, layout=layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


@pytest.mark.parametrize("layout", ["archives", "tree", "tree-by-class"])
def test_unlabelled_images_are_refused_where_a_layout_has_none(tmp_path, layout):
    with pytest.raises(ConfigError, match=f"--test has no effect on the layout {layout}"):
        build_ilsvrc2012(tmp_path / "s", None, SampleSize(2, 3, 2, 1), layout=layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["archives", "tree", "tree-by-class", "kaggle"])
def test_stored_members_are_refused_where_nothing_is_compressed(tmp_path, layout):
    with pytest.raises(ConfigError, match=f"--stored has no effect on the layout {layout}"):
        build_ilsvrc2012(tmp_path / "s", None, SIZE, stored=True, layout=layout)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_which_option_it_cannot_honour(tmp_path, capsys):
    out = tmp_path / "s"
    assert main(["sample", "ilsvrc2012", "--test", "7", "--out", str(out)]) != 0
    assert "error: --test has no effect on the layout archives" in capsys.readouterr().err
    assert not out.exists()


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=f"--layout torrent: expected one of {LAYOUTS[0]}, "):
        build_ilsvrc2012(tmp_path / "s", None, SIZE, layout="torrent")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("there", ["file", "folder"])
def test_nothing_is_overwritten(tmp_path, layout, there):
    path = tmp_path / "s"
    if there == "file":
        path.write_bytes(b"mine")
    else:
        path.mkdir()
    with pytest.raises(KeyExists):
        build_ilsvrc2012(path, None, SIZE, layout=layout)
    assert path.read_bytes() == b"mine" if there == "file" else not list(path.iterdir())


def test_the_stages_accept_it(tmp_path):
    build_ilsvrc2012(tmp_path / "s", None, SIZE)
    receipts = run_stages(train_build(tmp_path, tmp_path / "s" / TRAIN), "restructure_val")
    assert receipts["untar"].counts["train_images"] == 6
    wnids = [entry["wnid"] for entry in receipts["restructure_val"].facts["classes"]]
    assert wnids == ["n00000001", "n00000002"]

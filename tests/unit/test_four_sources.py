"""ILSVRC2012 as people have it: each kind of source is told by looking and gives equal records."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from tests.support.ilsvrc import DEVKIT, TRAIN, VAL, build_sample, check_val_labels, ilsvrc_build

from imagenet_etl.build import Build
from imagenet_etl.errors import LabelError
from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples.ilsvrc2012 import IlsvrcTruth

KINDS = {
    "archives": "a tar of class tars",
    "tree": "an unpacked tree in a folder",
    "tree-by-class": "an unpacked tree in a folder",
    "kaggle": "Kaggle's layout in a folder",
    "kaggle-zip": "Kaggle's layout in a zip",
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IlsvrcTruth]:
    folder = tmp_path_factory.mktemp("samples")
    truths = [build_sample(folder / kind, kind) for kind in KINDS]
    assert all(truth == truths[0] for truth in truths)
    return folder, truths[0]


def prepared(data_dir: Path, source: Path, **settings: object) -> tuple[Build, Path]:
    return prepared_from({"ILSVRC2012": str(source)}, data_dir, **settings)


def prepared_from(
    sources: dict[str, str], data_dir: Path, **settings: object
) -> tuple[Build, Path]:
    build = ilsvrc_build(data_dir, sources, **settings)
    for name in build.facts.stages:
        outcome = run_stage(build, name)
        if name == "verify":
            path = Path(outcome.receipt.facts["path"])
    return build, path


def digests(version: Path, pattern: str) -> dict[str, str]:
    return {
        path.relative_to(version).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(version.glob(pattern))
    }


@pytest.fixture(scope="module")
def reference(samples: tuple[Path, IlsvrcTruth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, version = prepared(tmp_path_factory.mktemp("reference"), samples[0] / "archives")
    return version


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_the_same_recordio(
    samples: tuple[Path, IlsvrcTruth], reference: Path, tmp_path: Path, kind: str
) -> None:
    folder, truth = samples
    build, version = prepared(tmp_path / "data", folder / kind)
    assert digests(version, "recordio/**/*.*") == digests(reference, "recordio/**/*.*")
    assert len(digests(version, "recordio/**/*.rec")) == 2
    assert check_val_labels(version, folder / "archives", truth, "wnid") == len(truth.val)
    layouts = run_stage(build, "untar").receipt.facts["layouts"]
    assert KINDS[kind] in layouts.values()
    notes = json.loads((version / "manifest.json").read_text())["notes"]
    assert any(note.endswith(f"was {KINDS[kind]}.") for note in notes)


@pytest.mark.parametrize("root", ["..", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
@pytest.mark.parametrize("splits", [("train",), ()], ids=["train", "all"])
def test_kaggles_folder_may_be_given_at_any_depth(
    samples: tuple[Path, IlsvrcTruth],
    reference: Path,
    tmp_path: Path,
    root: str,
    splits: tuple[str, ...],
) -> None:
    """Its lists lie further up, and are found there; the training images alone do without."""
    shutil.copytree(samples[0] / "kaggle", tmp_path / "in/kaggle")
    source = tmp_path / "in" / ("kaggle" if root != ".." else "") / root.strip(".")
    _, version = prepared(tmp_path / "data", source, splits=splits)
    pattern = f"recordio/{'train/*' if splits else '**/*'}.rec"
    assert digests(version, pattern) == digests(reference, pattern)


def test_linked_tars_and_an_unpacked_devkit_give_the_same_records(
    samples: tuple[Path, IlsvrcTruth], reference: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in (TRAIN, VAL):
        (source / name).symlink_to(samples[0] / "archives" / name)
    with tarfile.open(samples[0] / "archives" / DEVKIT) as devkit:
        devkit.extractall(source, filter="data")
    _, version = prepared(tmp_path / "data", source)
    assert digests(version, "recordio/**/*.rec") == digests(reference, "recordio/**/*.rec")


def test_a_single_archive_may_be_given_as_a_link(
    samples: tuple[Path, IlsvrcTruth], reference: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(samples[0] / "archives" / TRAIN)
    _, version = prepared_from({TRAIN: str(link)}, tmp_path / "data")
    assert digests(version, "recordio/train/*.rec") == digests(reference, "recordio/train/*.rec")


def test_validation_images_by_class_alone_ask_nobody_for_labels(
    samples: tuple[Path, IlsvrcTruth], tmp_path: Path
) -> None:
    folder, truth = samples
    val = folder / "tree-by-class/val"
    _, version = prepared_from({VAL: str(val)}, tmp_path / "data")
    assert check_val_labels(version, folder / "archives", truth, "wnid") == len(truth.val)


def test_the_devkit_labels_a_flat_tree_that_has_none(
    samples: tuple[Path, IlsvrcTruth], reference: Path, tmp_path: Path
) -> None:
    folder, _ = samples
    inner = tmp_path / "CLS-LOC"
    shutil.copytree(folder / "kaggle/ILSVRC/Data/CLS-LOC", inner)
    with pytest.raises(LabelError, match=f"--source {DEVKIT}=PATH_OR_URL"):
        prepared(tmp_path / "data", inner)
    sources = {"ILSVRC2012": str(inner), DEVKIT: str(folder / "archives" / DEVKIT)}
    _, version = prepared_from(sources, tmp_path / "data")
    assert digests(version, "recordio/**/*.rec") == digests(reference, "recordio/**/*.rec")


def test_devkit_order_is_refused_where_no_devkit_is(
    samples: tuple[Path, IlsvrcTruth], tmp_path: Path
) -> None:
    with pytest.raises(LabelError, match="devkit's order of labels is not known"):
        prepared(tmp_path / "data", samples[0] / "kaggle", label_order="devkit")

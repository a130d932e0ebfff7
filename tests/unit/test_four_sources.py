"""ILSVRC2012 as people have it: each kind of source is told by looking and gives equal records."""

import hashlib
import json
from pathlib import Path

import pytest
from tests.support.ilsvrc import DEVKIT, build_sample, check_val_labels, ilsvrc_build

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
    build = ilsvrc_build(data_dir, {"ILSVRC2012": str(source)}, **settings)
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


@pytest.mark.parametrize("root", ["ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_folder_may_be_given_at_any_depth(
    samples: tuple[Path, IlsvrcTruth], reference: Path, tmp_path: Path, root: str
) -> None:
    """Its lists lie further up, so the training images alone can do without the devkit."""
    _, version = prepared(tmp_path / "data", samples[0] / "kaggle" / root, splits=("train",))
    assert digests(version, "recordio/train/*.rec") == digests(reference, "recordio/train/*.rec")


def test_the_devkit_labels_a_flat_tree_that_has_none(
    samples: tuple[Path, IlsvrcTruth], reference: Path, tmp_path: Path
) -> None:
    folder, _ = samples
    inner = folder / "kaggle/ILSVRC/Data/CLS-LOC"
    with pytest.raises(LabelError, match=f"--source {DEVKIT}=PATH_OR_URL"):
        prepared(tmp_path / "data", inner)
    build = ilsvrc_build(
        tmp_path / "data", {"ILSVRC2012": str(inner), DEVKIT: str(folder / "archives" / DEVKIT)}
    )
    for name in build.facts.stages:
        outcome = run_stage(build, name)
        if name == "verify":
            version = Path(outcome.receipt.facts["path"])
    assert digests(version, "recordio/**/*.rec") == digests(reference, "recordio/**/*.rec")


def test_devkit_order_is_refused_where_no_devkit_is(
    samples: tuple[Path, IlsvrcTruth], tmp_path: Path
) -> None:
    with pytest.raises(LabelError, match="devkit's order of labels is not known"):
        prepared(tmp_path / "data", samples[0] / "kaggle", label_order="devkit")

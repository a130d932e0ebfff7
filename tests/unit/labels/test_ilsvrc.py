"""Labels of ILSVRC2012, and what happens when two who tell of them disagree."""

import pickle
import shutil
import zipfile
from pathlib import Path

import pyarrow.compute as pc
import pytest
from tests.support.ilsvrc import DEVKIT, SIZE, TRAIN, VAL, build_sample, ilsvrc_build

from imagenet_etl.errors import CountMismatch, LabelError, UnexpectedMember
from imagenet_etl.pipeline import receipts_up_to, run_stage
from imagenet_etl.samples.ilsvrc2012 import IlsvrcTruth
from imagenet_etl.tables import read_table


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IlsvrcTruth]:
    folder = tmp_path_factory.mktemp("samples")
    truth = build_sample(folder / "archives")
    for layout in ("tree", "tree-by-class", "kaggle"):
        build_sample(folder / layout, layout)
    return folder, truth


@pytest.fixture
def tree(samples: tuple[Path, IlsvrcTruth], tmp_path: Path) -> Path:
    return Path(shutil.copytree(samples[0] / "tree", tmp_path / "tree"))


def labelled(data_dir: Path, source: Path, extra: dict[str, str] | None = None, **settings):
    """Run up to restructure_val; return its receipt and its table."""
    build = ilsvrc_build(data_dir, {"ILSVRC2012": str(source)} | (extra or {}), **settings)
    for name in ("download", "untar", "restructure_val"):
        receipt = run_stage(build, name).receipt
    assert receipts_up_to(build, "restructure_val")["restructure_val"] == receipt
    return build, receipt, read_table(build.storage, receipt.key_of("images.parquet"))


def truth_of(table) -> dict[str, str]:
    val = table.filter(pc.equal(table["split"], "val"))
    return dict(zip(val["file_name"].to_pylist(), val["wnid"].to_pylist(), strict=True))


@pytest.mark.parametrize("layout", ["archives", "tree", "tree-by-class", "kaggle"])
def test_every_validation_image_gets_its_class(samples, tmp_path, layout):
    folder, truth = samples
    _, receipt, table = labelled(tmp_path / "data", folder / layout)
    assert truth_of(table) == truth.val
    assert receipt.counts["val_labels"] == len(truth.val)
    assert [entry["wnid"] for entry in receipt.facts["classes"]] == sorted(set(truth.val.values()))


def test_ids_and_names_are_those_of_the_devkit(samples, tmp_path):
    folder, truth = samples
    _, receipt, _ = labelled(tmp_path / "data", folder / "archives", label_order="devkit")
    found = [tuple(entry.values()) for entry in receipt.facts["classes"]]
    assert found == [(s.wnid, s.id, s.names) for s in truth.synsets]


def test_meta_bin_names_the_classes_and_lists_val_in_file_order(samples, tmp_path):
    folder, truth = samples
    build, receipt, _ = labelled(tmp_path / "data", folder / "archives")
    with zipfile.ZipFile(build.storage.local_path(receipt.key_of("meta.bin"))) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        classes, val_wnids = pickle.loads(archive.read(name))
    assert classes == {s.wnid: tuple(s.names.split(", ")) for s in truth.synsets}
    assert val_wnids == [truth.val[name] for name in sorted(truth.val)]


def test_an_image_in_the_folder_of_another_class_is_noticed(samples, tree, tmp_path):
    shutil.rmtree(tree / "val")
    shutil.copytree(samples[0] / "tree-by-class/val", tree / "val")
    image = next((tree / "val").rglob("*.JPEG"))
    other = next(f for f in (tree / "val").iterdir() if f != image.parent)
    image.rename(other / image.name)
    with pytest.raises(LabelError, match=f"folder of another class: expected {image.name} in"):
        labelled(tmp_path / "data", tree)


def test_an_image_that_is_there_twice_is_noticed(samples, tmp_path):
    tree = Path(shutil.copytree(samples[0] / "tree-by-class", tmp_path / "tree"))
    image = next((tree / "val").rglob("*.JPEG"))
    other = next(f for f in (tree / "val").iterdir() if f != image.parent)
    shutil.copy(image, other / image.name)
    with pytest.raises(LabelError, match=f"{image.name} is there twice"):
        labelled(tmp_path / "data", tree)


@pytest.mark.parametrize(("change", "found"), [(-1, "has no line for 1 validation"), (1, "names")])
def test_a_ground_truth_of_another_length_is_refused(samples, tree, tmp_path, change, found):
    path = tree / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:change] if change < 0 else [*lines, "1"]) + "\n")
    with pytest.raises(LabelError, match=found) as caught:
        labelled(tmp_path / "data", tree)
    assert f"expected {len(lines)} lines, found {len(lines) + change}" in str(caught.value)


def test_two_lists_that_contradict_each_other_are_refused(samples, tmp_path):
    kaggle = Path(shutil.copytree(samples[0] / "kaggle", tmp_path / "kaggle"))
    path = kaggle / "LOC_val_solution.csv"
    head, first, *rest = path.read_text().splitlines()
    name, _, prediction = first.partition(",")
    wnid = next(w for line in rest if (w := line.partition(",")[2].split()[0]) not in prediction)
    path.write_text("\n".join([head, f"{name},{wnid} 1 1 2 2", *rest]) + "\n")
    devkit = {DEVKIT: str(samples[0] / "archives" / DEVKIT)}
    with pytest.raises(LabelError, match=f"expected {name}.JPEG in {wnid}"):
        labelled(tmp_path / "data", kaggle, devkit)


def test_a_class_without_training_images_is_refused(tree, tmp_path):
    gone = next((tree / "train").iterdir())
    shutil.rmtree(gone)
    with pytest.raises(LabelError, match=f"class {gone.name} of data/meta.mat has no training"):
        labelled(tmp_path / "data", tree)


def test_a_class_that_the_devkit_does_not_know_is_refused(tree, tmp_path):
    known = next((tree / "train").iterdir())
    strange = tree / "train/n99999999"
    strange.mkdir()
    shutil.copy(next(known.iterdir()), strange / "n99999999_1.JPEG")
    with pytest.raises(LabelError, match="class folder n99999999 is not in"):
        labelled(tmp_path / "data", tree)


def test_a_list_in_two_places_is_refused(samples, tree, tmp_path):
    devkit = {DEVKIT: str(samples[0] / "archives" / DEVKIT)}
    with pytest.raises(UnexpectedMember, match="is in two places"):
        labelled(tmp_path / "data", tree, devkit)


def test_train_alone_takes_classes_from_its_folders(samples, tmp_path):
    build = ilsvrc_build(tmp_path / "data", {TRAIN: str(samples[0] / "archives" / TRAIN)})
    for name in ("download", "untar", "restructure_val"):
        receipt = run_stage(build, name).receipt
    assert [entry["names"] for entry in receipt.facts["classes"]] == [""] * SIZE.classes
    assert [output.name for output in receipt.outputs] == ["images.parquet"]


def test_swapped_archives_are_told_by_their_members(samples, tmp_path):
    folder = samples[0] / "archives"
    build = ilsvrc_build(
        tmp_path / "data", {TRAIN: str(folder / VAL), VAL: str(folder / TRAIN), DEVKIT: "/x"}
    )
    build.settings.sources[DEVKIT] = str(folder / DEVKIT)
    run_stage(build, "download")
    with pytest.raises(UnexpectedMember, match=f"{TRAIN}: member ILSVRC2012_val_"):
        run_stage(build, "untar")


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"classes": SIZE.classes + 1}, "another number of classes"),
        ({"class_sizes": {"val": (SIZE.val + 1,) * 2}}, "another number of val images"),
        ({"class_sizes": {"train": (1, SIZE.train - 1)}}, "another number of train images"),
    ],
)
def test_published_class_sizes_are_demanded(samples, tmp_path, facts, found):
    from dataclasses import replace

    from imagenet_etl.labels.restructure import restructure_val
    from imagenet_etl.stage import Place

    build, _, _ = labelled(tmp_path / "data", samples[0] / "archives")
    sizes = {"train": (SIZE.train, SIZE.train), "val": (SIZE.val, SIZE.val)}
    right = {"classes": SIZE.classes, "class_sizes": sizes}
    done = receipts_up_to(build, "untar")

    def check(**changed):
        published = replace(
            build,
            settings=replace(build.settings, expect="published"),
            facts=replace(build.facts, **right | changed),
        )
        return restructure_val(Place(published, done, "d", "work/d"))

    assert check().counts["val_labels"] == SIZE.classes * SIZE.val
    with pytest.raises(CountMismatch, match=found):
        check(**facts)

"""The labels of a sample, read back by what reads the official ones."""

import io
import tarfile

import pytest
from scipy.io import loadmat
from tests.support.archives import encoded, picture

from imagenet_etl.errors import ConfigError
from imagenet_etl.labels.devkit import GROUND_TRUTH, META, parse_ground_truth, parse_meta
from imagenet_etl.labels.kaggle import parse_synset_mapping, parse_val_solution
from imagenet_etl.samples import SampleSize
from imagenet_etl.samples.content import content_of
from imagenet_etl.samples.devkit import devkit_files
from imagenet_etl.samples.ilsvrc2012 import DEVKIT, build_ilsvrc2012

SIZE = SampleSize(classes=5, train=1, val=3, test=0)


def kit_of(size):
    content = content_of(None, size)
    return content, devkit_files(content.synsets, content.val, size.train)


def test_the_devkit_of_the_archives_tells_the_truth(tmp_path):
    truth = build_ilsvrc2012(tmp_path / "s", None, SIZE)
    with tarfile.open(tmp_path / "s" / DEVKIT) as tar:
        root = "ILSVRC2012_devkit_t12"
        meta = tar.extractfile(f"{root}/{META}").read()
        lines = tar.extractfile(f"{root}/{GROUND_TRUTH}").read().decode()
    synsets = parse_meta(meta)
    assert synsets == truth.synsets
    wnids = parse_ground_truth(lines, synsets)
    assert dict(zip(sorted(truth.val), wnids, strict=True)) == truth.val


def test_a_map_by_sorted_wnids_gets_validation_images_wrong():
    content, kit = kit_of(SIZE)
    ids = [int(line) for line in kit[GROUND_TRUTH].split()]
    wrong = [content.wnids[number - 1] for number in ids]
    assert all(guess != wnid for guess, wnid in zip(wrong, content.val.values(), strict=True))


@pytest.mark.parametrize("classes", [2, 3, 4, 7, 1000])
def test_no_class_has_the_id_of_its_place_among_sorted_wnids(classes):
    synsets = content_of(None, SampleSize(classes, 1, 1, 0)).synsets
    wnids = sorted(synset.wnid for synset in synsets)
    assert [synset.id for synset in synsets] == list(range(1, classes + 1))
    assert all(wnids[synset.id - 1] != synset.wnid for synset in synsets)
    if classes > 2:
        twice = [wnids.index(synsets[wnids.index(s.wnid)].wnid) + 1 for s in synsets]
        assert twice != [s.id for s in synsets], "reading the map backwards must show"


@pytest.mark.parametrize(("classes", "val"), [(2, 1), (2, 2), (3, 2), (20, 4), (1000, 1)])
def test_validation_images_are_dealt_evenly_in_no_simple_order(classes, val):
    dealt = list(content_of(None, SampleSize(classes, 1, val, 0)).val.values())
    assert {dealt.count(wnid) for wnid in set(dealt)} == {val}
    assert len(dealt) == classes * val
    assert dealt != sorted(dealt)
    assert val == 1 or dealt != dealt[:classes] * val


def test_a_single_class_has_id_one():
    content, kit = kit_of(SampleSize(1, 1, 2, 0))
    assert parse_meta(kit[META]) == content.synsets
    assert kit[GROUND_TRUTH] == b"1\n1\n"


def test_meta_mat_has_the_fields_and_inner_synsets_of_the_official_one():
    content, kit = kit_of(SIZE)
    rows = loadmat(io.BytesIO(kit[META]), squeeze_me=True)["synsets"]
    assert rows.dtype.names == (
        "ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
        "num_train_images",
    )  # fmt: skip
    leaves = [int(row["ILSVRC2012_ID"]) for row in rows if row["num_children"] == 0]
    assert leaves == [1, 2, 3, 4, 5]
    inner = rows[5:]
    assert [row["ILSVRC2012_ID"] for row in inner] == [6, 7, 8]
    assert [row["num_children"] for row in inner] == [row["children"].size for row in inner]
    assert not {row["WNID"] for row in inner} & set(content.wnids)


def test_torchvisions_way_of_reading_meta_mat_finds_the_classes():
    content, kit = kit_of(SIZE)
    rows = loadmat(io.BytesIO(kit[META]), squeeze_me=True)["synsets"]
    children = list(zip(*rows, strict=True))[4]
    leaves = [row for row, inside in zip(rows, children, strict=True) if inside == 0]
    found = [(int(number), str(wnid), str(names)) for number, wnid, names, *_ in leaves]
    assert found == [(s.id, s.wnid, s.names) for s in content.synsets]


def test_equal_classes_give_an_equal_kit():
    assert kit_of(SIZE)[1] == kit_of(SIZE)[1]


def test_kaggles_tables_tell_the_truth(tmp_path):
    truth = build_ilsvrc2012(tmp_path / "s", None, SIZE, layout="kaggle")
    solution = parse_val_solution((tmp_path / "s/LOC_val_solution.csv").read_text())
    assert solution == truth.val
    assert list(solution) != list(truth.val), "its lines are in no order"
    names = parse_synset_mapping((tmp_path / "s/LOC_synset_mapping.txt").read_text())
    assert names == {synset.wnid: synset.names for synset in truth.synsets}
    assert list(names) == sorted(names)


def images_with(folder, table):
    """Write an image of each of two classes, and ``classes.tsv`` beside their folder."""
    for n in range(4):
        path = folder / f"images/n0000777{n % 2}/{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(40, 30, seed=n)))
    (folder / "classes.tsv").write_bytes(table)
    return folder / "images"


def test_names_are_taken_from_the_table_beside_the_images(tmp_path):
    table = "wnid\tname\nn00007770\tcrêpe, pancake\nn00007771\ta\tb\n".encode()
    content = content_of(images_with(tmp_path, table), SampleSize(2, 1, 1, 0))
    names = {synset.wnid: synset.names for synset in content.synsets}
    made_up = "sample class n00007771, sample n00007771"
    assert names == {"n00007770": "crêpe, pancake", "n00007771": made_up}
    assert parse_meta(devkit_files(content.synsets, content.val, 1)[META]) == content.synsets


def test_a_table_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"classes\.tsv: expected text in UTF-8"):
        content_of(images_with(tmp_path, b"\xff\xfe"), SampleSize(2, 1, 1, 0))

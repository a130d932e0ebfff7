"""Labels of a dataset whose images all stand in their class's folder or tar."""

from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.tars import ARCHIVE, train_build, train_tar

from imagenet_etl.tables import read_table

CLASSES = {
    wnid: {f"{wnid}_{k}.JPEG": b"x" for k in range(2)}
    for wnid in ("n00000007", "n00000001", "n00000003")
}


def test_the_index_is_passed_on_without_a_copy(tmp_path):
    build = train_build(tmp_path, train_tar(tmp_path / ARCHIVE, CLASSES))
    receipts = run_stages(build, "restructure_val")
    untar, labelled = receipts["untar"], receipts["restructure_val"]
    assert labelled.key_of("images.parquet") == untar.key_of("images.parquet")
    assert len(list((tmp_path / "data").rglob("images.parquet"))) == 1
    table = read_table(build.storage, labelled.key_of("images.parquet"))
    assert table.num_rows == 6


def test_classes_are_the_wnids_found_in_sorted_order(tmp_path):
    build = train_build(tmp_path, train_tar(tmp_path / ARCHIVE, CLASSES))
    receipt = run_stages(build, "restructure_val")["restructure_val"]
    assert [entry["wnid"] for entry in receipt.facts["classes"]] == sorted(CLASSES)
    assert receipt.counts == {"val_labels": 0}


def test_a_dataset_with_validation_images_is_labelled_by_its_annotations(tmp_path):
    receipts = run_stages(build_of(tmp_path, tiny_zip(tmp_path)), "restructure_val")
    untar, labelled = receipts["untar"], receipts["restructure_val"]
    assert labelled.key_of("images.parquet") != untar.key_of("images.parquet")
    assert labelled.counts == {"val_labels": 6}

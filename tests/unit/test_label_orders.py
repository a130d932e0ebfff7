"""Both label orders in one data folder, either one first: neither is taken for the other."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.ilsvrc import build_sample, check_val_labels, ilsvrc_build, label_order

from imagenet_etl.pipeline import run_stage


def prepared(tmp_path: Path, **settings: object) -> Path:
    build = ilsvrc_build(tmp_path / "data", {"ILSVRC2012": str(tmp_path / "archives")}, **settings)
    for name in build.facts.stages:
        outcome = run_stage(build, name)
        if name == "verify":
            version = Path(outcome.receipt.facts["path"])
    return version


def wnids(version: Path) -> list[str]:
    lines = (version / "classes.tsv").read_text().splitlines()[1:]
    return [line.split("\t")[1] for line in lines]


@pytest.mark.parametrize("orders", [("wnid", "devkit"), ("devkit", "wnid")])
def test_the_order_that_is_asked_for_is_the_order_that_comes_out(tmp_path, orders):
    truth = build_sample(tmp_path / "archives")
    versions = [prepared(tmp_path, label_order=order) for order in orders]
    assert versions[0] != versions[1]
    for version, order in zip(versions, orders, strict=True):
        assert wnids(version) == label_order(truth, order)
        assert check_val_labels(version, tmp_path / "archives", truth, order) == len(truth.val)
        manifest = json.loads((version / "manifest.json").read_text())
        assert manifest["settings"]["label_order"] == order


def test_classes_that_are_left_out_keep_the_order_of_the_others(tmp_path):
    truth = build_sample(tmp_path / "archives")
    gone = label_order(truth, "devkit")[1]
    version = prepared(tmp_path, label_order="devkit", drop_classes=(gone,))
    assert wnids(version) == [w for w in label_order(truth, "devkit") if w != gone]


def test_a_wrong_map_of_labels_would_be_noticed(tmp_path):
    """The mistake everybody makes: to take the devkit's ids for places in sorted order."""
    truth = build_sample(tmp_path / "archives")
    ids = label_order(truth, "devkit")
    assert ids != sorted(ids)
    version = prepared(tmp_path)
    mistaken = dict(zip(ids, sorted(ids), strict=True))
    wrong = replace(truth, val={name: mistaken[wnid] for name, wnid in truth.val.items()})
    with pytest.raises(AssertionError):
        check_val_labels(version, tmp_path / "archives", wrong, "wnid")
    with pytest.raises(AssertionError):
        check_val_labels(version, tmp_path / "archives", truth, "devkit")

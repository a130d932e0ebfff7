"""Receipts: the only definition of "done"."""

from __future__ import annotations

import json
import time
from dataclasses import fields, replace

import pytest
from tests.support.builds import tiny_build

from imagenet_etl.errors import SchemaTooNew
from imagenet_etl.receipts import RECEIPT_SCHEMA, Output, Receipt, outputs_intact, stage_digest_of

RECEIPT = Receipt(
    stage="pack",
    stage_digest="ab" * 32,
    base="work/tiny_imagenet/pack/ab",
    outputs=(Output("a.rec", 3, "cd" * 32, "17"), Output("b.rec", 0, "ef" * 32)),
    counts={"packed": 9, "quarantined": 1},
    facts={"classes": [["n01", "a"]]},
    inputs={"plan_shards": "01" * 32},
    settings={"quality": 90},
    tools={"pillow": "1"},
    quarantined=({"path": "x", "reason": "y"},),
    identity="i",
    seconds=1.5,
    finished_at=12.0,
)


def test_a_receipt_survives_json():
    assert Receipt.from_json(RECEIPT.to_json(), "receipt.json") == RECEIPT


def test_a_newer_receipt_is_refused_and_named():
    newer = replace(RECEIPT, schema_version=RECEIPT_SCHEMA + 1)
    with pytest.raises(SchemaTooNew, match=r"some/receipt\.json was written by a newer version"):
        Receipt.from_json(newer.to_json(), "some/receipt.json")


def test_a_newer_receipt_is_refused_before_its_fields_are_looked_at():
    record = json.loads(RECEIPT.to_json()) | {"schema_version": 99, "a_new_field": 1}
    with pytest.raises(SchemaTooNew):
        Receipt.from_json(json.dumps(record).encode(), "receipt.json")


CHANGES = {
    "stage": "verify",
    "outputs": RECEIPT.outputs[:1],
    "counts": {"packed": 10},
    "inputs": {"plan_shards": "02" * 32},
    "identity": "j",
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_result_has_another_digest(name):
    assert replace(RECEIPT, **{name: CHANGES[name]}).digest != RECEIPT.digest


def test_how_a_result_came_about_is_not_in_its_digest():
    same = {
        "stage_digest": "x", "base": "elsewhere",
            "facts": RECEIPT.facts | {"sources": "elsewhere"}, "settings": {}, "tools": {},
        "quarantined": (), "seconds": 9.0, "finished_at": 99.0, "schema_version": 1,
        "outputs": tuple(replace(output, tag="later") for output in RECEIPT.outputs),
    }  # fmt: skip
    assert replace(RECEIPT, **same).digest == RECEIPT.digest
    told = set(same) | set(CHANGES)
    assert told == {field.name for field in fields(Receipt)}, "decide for each new field"


@pytest.mark.parametrize("name", ["name", "size", "sha256"])
def test_another_output_gives_another_digest(name):
    other = replace(RECEIPT.outputs[0], **{name: 99 if name == "size" else "other"})
    assert replace(RECEIPT, outputs=(other, RECEIPT.outputs[1])).digest != RECEIPT.digest


def test_a_stage_digest_depends_on_each_of_its_parts():
    parts = ("pack", 1, {"quality": 90}, {"plan": "ab"}, {"pillow": "1"})
    others = ("verify", 2, {"quality": 91}, {"plan": "cd"}, {"pillow": "2"})
    digests = {stage_digest_of(*parts)}
    for at, other in enumerate(others):
        digests.add(stage_digest_of(*parts[:at], other, *parts[at + 1 :]))
    assert len(digests) == len(parts) + 1
    assert stage_digest_of(*parts) in digests


def test_keys_of_outputs_are_below_the_base():
    assert RECEIPT.key_of("a.rec") == "work/tiny_imagenet/pack/ab/a.rec"
    assert replace(RECEIPT, base="").key_of("archives/x.zip") == "archives/x.zip"


@pytest.fixture
def made(tmp_path):
    build = tiny_build(tmp_path)
    outputs = []
    for name in ("a", "b/c"):
        build.storage.put(f"base/{name}", name.encode())
        stat = build.storage.stat(f"base/{name}")
        assert stat is not None
        outputs.append(Output(name, stat.size, "", stat.tag))
    return build, replace(RECEIPT, base="base", outputs=tuple(outputs))


def test_untouched_outputs_are_intact(made):
    assert outputs_intact(*made)


def test_a_removed_output_is_not_intact(made):
    build, receipt = made
    build.storage.delete("base/b/c")
    assert not outputs_intact(build, receipt)


def test_a_rewritten_output_is_not_intact_even_at_its_size(made):
    build, receipt = made
    time.sleep(0.02)  # older kernels tell times in steps of some milliseconds
    build.storage.put("base/b/c", b"B/C")
    assert not outputs_intact(build, receipt)


def test_a_folder_in_an_outputs_place_is_not_intact(made):
    build, receipt = made
    build.storage.delete("base/a")
    build.storage.put("base/a/x", b"")
    assert not outputs_intact(build, receipt)


def test_other_labels_are_another_result():
    other = replace(RECEIPT, facts={"classes": [["n02", "b"], ["n01", "a"]]})
    assert other.digest != RECEIPT.digest

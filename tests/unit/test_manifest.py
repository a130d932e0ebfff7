import json
from dataclasses import replace

import pytest

from imagenet_etl.errors import DatasetDamaged, EtlError, SchemaTooNew
from imagenet_etl.files import digest_of, pretty_json
from imagenet_etl.manifest import MANIFEST_SCHEMA, Manifest, ManifestFile, parse_manifest

MANIFEST = Manifest(
    dataset="tiny_imagenet",
    version="v1.0",
    pack_digest="ab" * 32,
    licence="As they say; \u00abnon-commercial\u00bb.",
    terms_url="https://example.org/terms",
    archives=[{"name": "a.zip", "size": 12, "md5": "0" * 32}],
    settings={
        "outputs": {"recordio": "none"},
        "parts": ["one"],
        "seed": 100,
        "upscale": False,
        "resize": "none",
    },
    notes=["The 20 images of split 'test' are left out."],
    counts={"expected": 10, "packed": 9, "quarantined": 1},
    class_counts={"train": {"n00000001": 9}},
    short_classes={"train": {"n00000001": {"planned": 10, "packed": 9}}},
    dropped_classes={"n00000002": 500},
    bad_classes=[{"wnid": "n00000003", "path": "n00000003.tar", "reason": "is truncated"}],
    repaired=[{"path": "a/odd.JPEG", "wnid": "n00000001", "archive": "a.zip", "offset": 9}],
    quarantined=({"path": "a/b.JPEG", "offset": 1000, "reason": "empty file"},),
    tools={"pillow": "1.0"},
    files=(ManifestFile("records.parquet", 100, "cd" * 32),),
)
DATA = MANIFEST.to_json()


def test_a_manifest_is_read_back():
    assert parse_manifest(DATA, "m") == MANIFEST


def test_the_bytes_depend_on_the_content_alone():
    assert parse_manifest(DATA, "m").to_json() == DATA
    assert replace(MANIFEST, settings=MANIFEST.settings | {"parts": ("one",)}).to_json() == DATA


def test_the_schema_version_comes_first_and_the_digest_of_the_rest_last():
    fields = json.loads(DATA)
    assert next(iter(fields.items())) == ("schema_version", MANIFEST_SCHEMA)
    assert list(fields)[-1] == "content_sha256"
    assert fields.pop("content_sha256") == digest_of(fields)


def test_every_flipped_bit_is_noticed_and_the_file_is_named():
    for at in range(len(DATA)):
        for bit in range(8):
            damaged = bytearray(DATA)
            damaged[at] ^= 1 << bit
            with pytest.raises((DatasetDamaged, SchemaTooNew), match=r"data/v1/manifest\.json"):
                parse_manifest(bytes(damaged), "data/v1/manifest.json")


def test_every_truncation_is_noticed():
    for length in range(len(DATA) - 1):  # all but the final line end
        with pytest.raises(DatasetDamaged, match="m is no manifest"):
            parse_manifest(DATA[:length], "m")


@pytest.mark.parametrize("name", [*json.loads(DATA)])
@pytest.mark.parametrize("change", ["missing", "null", "added"])
def test_a_changed_field_is_noticed(name, change):
    fields = json.loads(DATA)
    if change == "missing":
        del fields[name]
    elif change == "null":
        fields[name] = None
    else:
        fields[f"{name}_too"] = 1
    with pytest.raises(DatasetDamaged):
        parse_manifest(json.dumps(fields).encode(), "m")


@pytest.mark.parametrize(
    "files", [[{"name": "x"}], [1], None, [{"name": "x", "size": 1, "sha": ""}]]
)
def test_a_manifest_of_another_shape_is_refused_even_with_a_right_digest(files):
    fields = json.loads(DATA) | {"files": files}
    del fields["content_sha256"]
    data = pretty_json(fields | {"content_sha256": digest_of(fields)})
    with pytest.raises(DatasetDamaged, match="m is no manifest"):
        parse_manifest(data, "m")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"1", b"\xff\xfe", b"<html>"])
def test_what_is_no_manifest_is_refused_with_a_remedy(data):
    with pytest.raises(DatasetDamaged) as caught:
        parse_manifest(data, "m")
    assert str(caught.value).startswith("m is no manifest")
    assert "Restore it" in str(caught.value)


def test_layout_of_the_json_does_not_matter():
    fields = dict(reversed(json.loads(DATA).items()))
    assert parse_manifest(json.dumps(fields).encode(), "m") == MANIFEST


def test_a_newer_schema_is_refused_kindly_before_anything_else_is_looked_at():
    data = json.dumps({"schema_version": MANIFEST_SCHEMA + 1, "other": "fields"}).encode()
    with pytest.raises(SchemaTooNew, match="Upgrade this package") as caught:
        parse_manifest(data, "m")
    assert isinstance(caught.value, EtlError)

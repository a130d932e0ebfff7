"""ImageFolder may hold files such as ``meta.bin``, if manifest and receipt list them."""

import hashlib
from dataclasses import replace

import pytest
from tests.support.builds import tiny_build

from imagenet_etl.manifest import ManifestFile, parse_manifest
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.records.loose import loose_files_intact
from imagenet_etl.verify import verify_folder

NAMES = [f"imagefolder/{folder}meta.bin" for folder in ("", "train/", "val/")]
DATA = b"a map of labels"


@pytest.fixture
def with_meta(version):
    """Add the files, and list them in the manifest."""
    for name in NAMES:
        (version / name).write_bytes(DATA)
    path = version / "manifest.json"
    manifest = parse_manifest(path.read_bytes(), "manifest.json")
    digest = hashlib.sha256(DATA).hexdigest()
    more = tuple(ManifestFile(name, len(DATA), digest) for name in NAMES)
    path.write_bytes(replace(manifest, files=manifest.files + more).to_json())
    return version


def receipt_of(version, left_out=()):
    """Return a receipt that lists what the manifest does."""
    manifest = parse_manifest((version / "manifest.json").read_bytes(), "manifest.json")
    outputs = tuple(
        Output(file.name, file.size, file.sha256)
        for file in manifest.files
        if file.name not in left_out
    )
    return Receipt(stage="pack", stage_digest="0", base=version.name, outputs=outputs, counts={})


def intact(version, left_out=()):
    return loose_files_intact(tiny_build(version.parent), receipt_of(version, left_out))


def test_files_that_are_listed_belong_to_the_version(with_meta):
    assert intact(with_meta)
    verify_folder(with_meta)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_the_receipt_does_not_list_is_noticed(with_meta, name):
    assert not intact(with_meta, left_out=[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_the_manifest_does_not_list_is_noticed(version, refusal, name):
    (version / name).write_bytes(DATA)
    assert f"{name} is damaged: expected no such file" in refusal()
    assert not intact(version)


@pytest.mark.parametrize(
    "name", ["imagefolder/val/n00000001/meta.bin", "imagefolder/x/meta.bin", "imagefolder/meta"]
)
def test_such_a_file_elsewhere_is_still_noticed(with_meta, refusal, name):
    (with_meta / name).parent.mkdir(exist_ok=True)
    (with_meta / name).write_bytes(DATA)
    assert f"{name} is damaged: expected no such file" in refusal()
    assert not intact(with_meta)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_such_a_file_is_noticed(with_meta, refusal, name):
    (with_meta / name).write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
    assert f"{name} is damaged: expected sha256" in refusal()


@pytest.mark.parametrize("change", ["missing", "longer"])
def test_images_are_still_compared_beside_them(with_meta, change):
    image = next((with_meta / "imagefolder/train").rglob("*.JPEG"))
    if change == "missing":
        image.unlink()
    else:
        image.write_bytes(image.read_bytes() + b"x")
    assert not intact(with_meta)

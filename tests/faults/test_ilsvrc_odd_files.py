"""The odd files of ILSVRC2012's training set, by kind: found by content, never by a list."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from tests.support.archives import encoded, picture
from tests.support.tars import ARCHIVE, train_build, train_tar

from imagenet_etl.pipeline import run_stage
from imagenet_etl.readers import RecordIoReader

WNID = "n02105855"
BROKEN_EXIF = b"\xff\xe1\x00\x20Exif\0\0II\x2a\x00\xff\xff\xff\x7f" + b"\xff\x00" * 8
PLAIN = encoded(picture(120, 90, seed=1))
FILES = {
    f"{WNID}_1.JPEG": PLAIN,
    f"{WNID}_2933.JPEG": encoded(picture(120, 90, seed=2), "PNG"),
    f"{WNID}_14822.JPEG": encoded(picture(120, 90, "CMYK", seed=3)),
    f"{WNID}_4.JPEG": PLAIN[:2] + BROKEN_EXIF + PLAIN[2:],
    f"{WNID}_5.JPEG": encoded(picture(120, 90, "L", seed=5)),
}
IN_ORDER = sorted(FILES)


@pytest.fixture(params=["none", "short_edge:48"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict, list[bytes]]:
    """Return the resizing, the manifest, and the packed images by their number."""
    build = train_build(
        tmp_path, train_tar(tmp_path / ARCHIVE, {WNID: FILES}), resize=request.param
    )
    for name in build.facts.stages:
        receipt = run_stage(build, name).receipt
        if name == "verify":
            version = Path(receipt.facts["path"])
    manifest = json.loads((version / "manifest.json").read_text())
    records = RecordIoReader(version / "recordio/train/train_00000.rec")
    return request.param, manifest, [bytes(r.image) for r in sorted(records, key=lambda r: r.key)]


def test_nothing_is_lost_and_nothing_quarantined(made):
    _, manifest, images = made
    assert len(images) == len(FILES)
    assert manifest["counts"]["quarantined"] == 0


def test_png_and_cmyk_are_repaired_and_listed(made):
    _, manifest, _ = made
    listed = {Path(item["path"]).name for item in manifest["repaired"]}
    assert listed == {f"{WNID}_2933.JPEG", f"{WNID}_14822.JPEG"}


def test_every_record_is_a_jpeg_that_trainers_read(made):
    resize, _, images = made
    for name, image in zip(IN_ORDER, images, strict=True):
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
            assert opened.format == "JPEG", name
            assert opened.mode in ("RGB", "L"), name
            assert min(opened.size) == (90 if resize == "none" else 48), name


def test_broken_exif_stops_nothing_and_changes_nothing(made):
    resize, _, images = made
    found = images[IN_ORDER.index(f"{WNID}_4.JPEG")]
    if resize == "none":
        assert found == FILES[f"{WNID}_4.JPEG"]
    else:
        assert found == images[IN_ORDER.index(f"{WNID}_1.JPEG")]

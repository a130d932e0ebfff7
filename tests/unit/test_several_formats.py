"""Several formats in one run: what they share, what each has of its own, and equal bytes always."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.support.archives import build_of, encoded, picture, run_stages, tiny_zip

from imagenet_etl.images.transform import Transformer
from imagenet_etl.readers import open_records
from imagenet_etl.records.lmdb import read_database
from imagenet_etl.samples import SampleSize

MANY = SampleSize(classes=4, train=8, val=4, test=0)
ALL = ("recordio:short_edge:32", "lmdb:squash:16x24:upscale", "webdataset", "imagefolder:png")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tiny_zip(tmp_path / "site", size=MANY)


def built(folder: Path, archive: Path, **settings) -> Path:
    verified = run_stages(build_of(folder, archive, **settings))["verify"]
    return Path(verified.facts["path"])


def rows_of(version: Path, output: str):
    table = pq.read_table(version / "records.parquet")
    return table.filter(pc.equal(table["output"], output)).to_pylist()


def test_sixteen_workers_and_one_give_the_same_bytes(tmp_path, archive):
    """All files stand in the manifest with their digests, LMDB's too."""
    one, many = (
        built(tmp_path / f"{workers}", archive, formats=ALL, shards=16, workers=workers)
        for workers in (1, 16)
    )
    assert (one / "manifest.json").read_bytes() == (many / "manifest.json").read_bytes()
    keys = [key for key, _ in read_database(one / "lmdb/train_db/data.mdb")]
    assert len(keys) == 32
    assert keys == sorted(keys)


def test_each_output_has_images_of_its_own(tmp_path, archive):
    version = built(tmp_path, archive, formats=ALL)
    sizes = {
        name: {(row["width"], row["height"], row["how"]) for row in rows_of(version, name)}
        for name in ("recordio", "lmdb", "webdataset", "imagefolder")
    }
    assert sizes == {
        "recordio": {(32, 32, "re-encoded")},
        "lmdb": {(16, 24, "re-encoded")},
        "webdataset": {(64, 64, "copied")},
        "imagefolder": {(64, 64, "re-encoded")},
    }
    assert {path.suffix for path in (version / "imagefolder/train").rglob("*.*")} == {".png"}
    outputs = json.loads((version / "manifest.json").read_text())["settings"]["outputs"]
    assert list(outputs) == ["recordio", "lmdb", "webdataset", "imagefolder"]


def test_outputs_with_equal_settings_share_their_bytes(tmp_path, archive):
    formats = ("recordio:short_edge:32", "webdataset:short_edge:32", "imagefolder:short_edge:32")
    version = built(tmp_path, archive, formats=formats)
    digests = [
        [row["sha256"] for row in rows_of(version, name.partition(":")[0])] for name in formats
    ]
    assert digests[0] == digests[1] == digests[2]


def test_an_image_is_decoded_once_for_all_outputs(monkeypatch):
    from imagenet_etl.images import transform
    from imagenet_etl.images.spec import parse_image_spec

    decoded = []
    real = transform.decode_jpeg
    monkeypatch.setattr(transform, "decode_jpeg", lambda *args: decoded.append(args) or real(*args))
    specs = [parse_image_spec(text) for text in ("short_edge:32", "squash:16x24", "crop:20x20")]
    Transformer(specs, 10**6).apply(encoded(picture(64, 64)))
    assert len(decoded) == 1


def test_a_database_of_one_size_comes_with_its_mean_and_another_says_why_not(tmp_path, archive):
    version = built(tmp_path / "fixed", archive, formats=("lmdb:squash:16x24:upscale",))
    assert {"mean.binaryproto", "mean.jpg", "labels.txt", "train.txt", "val.txt"} <= {
        path.name for path in (version / "lmdb").iterdir()
    }
    lines = (version / "lmdb/train.txt").read_text().splitlines()
    assert len(lines) == 32
    assert [line.split()[1] for line in lines] == [
        str(row["label"]) for row in rows_of(version, "lmdb") if row["split"] == "train"
    ]
    free = built(tmp_path / "free", archive, formats=("lmdb:short_edge:16",))
    assert not (free / "lmdb/mean.binaryproto").exists()
    assert "no mean image" in (free / "manifest.json").read_text()


def test_a_joined_shard_holds_what_many_shards_hold(tmp_path):
    """4,200 images are more than a segment holds."""
    (tmp_path / "site").mkdir()
    large = SampleSize(classes=2, train=2100, val=1, test=0)
    archive = tiny_zip(tmp_path / "site", size=large)
    formats = ("recordio", "webdataset")
    one = built(tmp_path / "one", archive, formats=formats, shards=1, workers=2)
    many = built(tmp_path / "many", archive, formats=formats, workers=2)
    assert [path.name for path in (one / "recordio/train").glob("*.rec")] == ["train_00000.rec"]
    assert len(list((many / "recordio/train").glob("*.rec"))) > 1
    images = [[(r.key, r.labels, r.image) for r in open_records(v / "recordio/train")]
              for v in (one, many)]  # fmt: skip
    assert images[0] == images[1]
    counts = json.loads((one / "manifest.json").read_text())["counts"]
    assert counts["bytes_written_twice"] > sum(len(image) for _, _, image in images[0])


def test_what_no_trainer_could_read_is_named_in_the_manifest(tmp_path):
    (tmp_path / "site").mkdir()
    member = "train/n00000001/images/n00000001_2.JPEG"
    archive = tiny_zip(tmp_path / "site", {member: encoded(picture(64, 64, "CMYK"))})
    version = built(tmp_path, archive)
    manifest = json.loads((version / "manifest.json").read_text())
    assert [item["path"].endswith(member) for item in manifest["repaired"]] == [True]
    assert member in (version / "repaired.tsv").read_text()

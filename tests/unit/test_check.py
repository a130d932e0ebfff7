"""FAULT 19: whatever is damaged in a published version, verifying it names the file."""

import hashlib
import io
import json
import random
import shutil
from dataclasses import replace

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.errors import DatasetDamaged, SchemaTooNew
from imagenet_etl.manifest import ManifestFile, parse_manifest
from imagenet_etl.records.recordio import read_index
from imagenet_etl.samples import SampleSize
from imagenet_etl.verify import verify_folder

SIZE = SampleSize(classes=2, train=3, val=2, test=1)
SHARDS = [f"recordio/{split}/{split}_{number:05d}{suffix}"
          for split, number in (("train", 0), ("train", 1), ("val", 0))
          for suffix in (".rec", ".idx", ".lst")]  # fmt: skip
IMAGES = [f"imagefolder/train/n0000000{c}/n0000000{c}_{n}.JPEG" for c in (1, 2) for n in range(3)]
IMAGES += [f"imagefolder/val/n0000000{1 + n % 2}/val_{n}.JPEG" for n in range(4)]
FILES = sorted([
    "manifest.json", "records.parquet", "classes.tsv", "quarantine.tsv",
    "annotations/wnids.txt", "annotations/words.txt", "annotations/val/val_annotations.txt",
    "annotations/train/n00000001/n00000001_boxes.txt",
    "annotations/train/n00000002/n00000002_boxes.txt",
    "imagefolder/files.parquet", *SHARDS, *IMAGES,
])  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of a small published version in both formats, with two training shards."""
    folder = tmp_path_factory.mktemp("published")
    build = build_of(
        folder, tiny_zip(folder, size=SIZE), formats=("recordio", "imagefolder"), shards=2
    )
    return build.storage.local_path(run_stages(build)["verify"].base)


@pytest.fixture
def version(published, tmp_path):
    """A copy of the published version that a test may damage."""
    return shutil.copytree(published, tmp_path / "version")


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def refusal(version):
    with pytest.raises((DatasetDamaged, SchemaTooNew)) as caught:
        verify_folder(version)
    return str(caught.value)


def test_an_undamaged_version_passes_and_everything_is_read(version):
    found = {p.relative_to(version).as_posix() for p in version.rglob("*") if p.is_file()}
    assert sorted(found) == FILES
    counts = verify_folder(version)
    assert counts["files"] == len(FILES) - 1  # the manifest is what they are compared with
    assert counts["records"] == counts["decoded"] == 20


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_noticed_and_the_file_is_named(version, name):
    size = (version / name).stat().st_size
    bit = random.Random(name).randrange(size * 8)
    flip(version / name, bit)
    assert f"{version}/{name} is" in refusal(version).replace("/./", "/"), f"bit {bit}"


def test_a_flipped_bit_anywhere_in_a_shard_is_noticed(version):
    rec = version / "recordio/train/train_00000.rec"
    starts = [at for _, at in read_index(rec.with_suffix(".idx").read_text())]
    size = rec.stat().st_size
    assert starts[0] == 0
    # Magic, length, label count, label, key, second key, image, and the padding before the next.
    places = [start + inside for start in starts for inside in (0, 5, 8, 14, 17, 26, 33, 500)]
    places += [start - 1 for start in [*starts[1:], size]]
    for at in places:
        flip(rec, at * 8 + 3)
        assert f"{rec} is damaged" in refusal(version).replace("/./", "/"), f"byte {at}"
        flip(rec, at * 8 + 3)
    verify_folder(version)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(version, name):
    (version / name).unlink()
    message = refusal(version)
    if name == "manifest.json":
        assert f"{version} is no dataset version" in message
    else:
        assert f"/{name} is damaged: expected a file, found nothing" in message


@pytest.mark.parametrize("change", ["longer", "shorter", "empty"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size_is_named(version, name, change):
    data = (version / name).read_bytes()
    if change == "longer":
        (version / name).write_bytes(data + b"x")
    else:
        (version / name).write_bytes(data[:-2] if change == "shorter" else b"")
    message = refusal(version)
    assert f"{name} is" in message
    if name != "manifest.json":
        assert f"expected {len(data):,} bytes" in message


def test_two_swapped_records_are_noticed(version):
    """Same size, every record sound: only index, table and digest tell."""
    rec = version / "recordio/val/val_00000.rec"
    starts = [at for _, at in read_index(rec.with_suffix(".idx").read_text())]
    data = rec.read_bytes()
    records = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    rec.write_bytes(b"".join(reversed(records)))
    assert "recordio/val/val_00000.rec is damaged" in refusal(version)


def test_two_swapped_images_are_noticed(version):
    one, other = version / IMAGES[0], version / IMAGES[1]
    one.rename(version / "x")
    other.rename(one)
    (version / "x").rename(other)
    assert "imagefolder/train/n00000001/n00000001_" in refusal(version)


def forge(version, name, data):
    """Replace a file and its digest in the manifest: only the content can tell now."""
    (version / name).write_bytes(data)
    path = version / "manifest.json"
    manifest = parse_manifest(path.read_bytes(), "manifest.json")
    entry = ManifestFile(name, len(data), hashlib.sha256(data).hexdigest())
    files = tuple(entry if file.name == name else file for file in manifest.files)
    path.write_bytes(replace(manifest, files=files).to_json())


@pytest.mark.parametrize(("field", "at"), [("label", 12), ("key", 16), ("image", 60)])
def test_a_record_that_contradicts_the_table_is_noticed(version, field, at):
    name = "recordio/val/val_00000.rec"
    data = bytearray((version / name).read_bytes())
    data[at] ^= 1
    forge(version, name, bytes(data))
    assert f"{name} is damaged: expected record" in refusal(version), field


def test_an_index_that_contradicts_the_table_is_noticed(version):
    name = "recordio/val/val_00000.idx"
    forge(version, name, (version / name).read_bytes().replace(b"\t0\n", b"\t4\n"))
    assert f"{name} is damaged: expected the keys and offsets of records.parquet" in refusal(
        version
    )
    forge(version, name, b"no index\n")
    assert f"{name} is damaged: found index line 1" in refusal(version)


def test_a_table_that_lost_a_record_is_noticed(version):
    import pyarrow.parquet as pq

    table = pq.read_table(version / "records.parquet")
    assert table.num_rows == 20
    pq.write_table(table.slice(1), version / "x")
    forge(version, "records.parquet", (version / "x").read_bytes())
    assert "records.parquet is damaged: expected 10 records of recordio, found 9" in refusal(
        version
    )


def test_an_image_of_another_size_than_its_row_is_noticed(version):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(version / "records.parquet")
    at = table.schema.get_field_index("width")
    table = table.set_column(at, table.schema.field(at), pa.array([65] * 20, pa.int32()))
    out = io.BytesIO()
    pq.write_table(table, out)
    forge(version, "records.parquet", out.getvalue())
    assert "is damaged: expected 65x64 pixels, found (64, 64)" in refusal(version)


def test_a_manifest_that_was_edited_to_hide_a_missing_file_is_noticed(version):
    path = version / "manifest.json"
    fields = json.loads(path.read_text())
    fields["files"] = [f for f in fields["files"] if f["name"] != "quarantine.tsv"]
    path.write_text(json.dumps(fields))
    (version / "quarantine.tsv").unlink()
    assert "manifest.json is damaged: expected sha256" in refusal(version)


@pytest.mark.parametrize("kind", ["no folder", "empty folder", "file"])
def test_what_is_no_version_is_refused(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("")
    with pytest.raises(DatasetDamaged, match=r"x is no dataset version: expected manifest\.json"):
        verify_folder(path)


@pytest.mark.parametrize(
    "name", ["imagefolder/train/n99999999/x.JPEG", "imagefolder/val/n00000001/x.JPEG", "notes.txt"]
)
def test_a_file_that_nobody_recorded_is_named(version, name):
    path = version / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"stray")
    assert f"{name} is damaged: expected no such file" in refusal(version)

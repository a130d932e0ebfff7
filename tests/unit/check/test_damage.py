"""FAULT 19: whatever is damaged in a published version, verifying it names the file."""

import json
import random
from itertools import pairwise

import lmdb
import pytest

from imagenet_etl.errors import DatasetDamaged
from imagenet_etl.records.recordio import read_index
from imagenet_etl.records.webdataset import read_index as read_tar_index
from imagenet_etl.verify import verify_folder

SHARDS = [f"{output}/{split}/{split}_{number:05d}{suffix}"
          for output, suffixes in (("recordio", (".rec", ".idx", ".lst")),
                                   ("webdataset", (".tar", ".idx")))
          for split, number in (("train", 0), ("train", 1), ("val", 0))
          for suffix in suffixes]  # fmt: skip
DATABASES = ["lmdb/train_db/data.mdb", "lmdb/val_db/data.mdb"]
IMAGES = [f"imagefolder/train/n0000000{c}/n0000000{c}_{n}.JPEG" for c in (1, 2) for n in range(3)]
IMAGES += [f"imagefolder/val/n0000000{1 + n % 2}/val_{n}.JPEG" for n in range(4)]
FILES = sorted([
    "manifest.json", "records.parquet", "classes.tsv", "synset_words.txt",
    "quarantine.tsv", "repaired.tsv",
    "annotations/wnids.txt", "annotations/words.txt", "annotations/val/val_annotations.txt",
    "annotations/train/n00000001/n00000001_boxes.txt",
    "annotations/train/n00000002/n00000002_boxes.txt",
    "lmdb/labels.txt", "lmdb/train.txt", "lmdb/val.txt", "lmdb/mean.binaryproto", "lmdb/mean.jpg",
    "imagefolder/files.parquet", *SHARDS, *DATABASES, *IMAGES,
])  # fmt: skip


def flip(path, bit):
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def files_below(version):
    return sorted(p.relative_to(version).as_posix() for p in version.rglob("*") if p.is_file())


def test_an_undamaged_version_passes_and_everything_is_read(version):
    assert files_below(version) == FILES
    counts = verify_folder(version)
    assert counts["files"] == len(FILES) - 1  # the manifest is what they are compared with
    assert (
        counts["bytes"]
        == sum((version / name).stat().st_size for name in FILES)
        - (version / "manifest.json").stat().st_size
    )
    assert counts["records"] == counts["decoded"] == 40
    assert files_below(version) == FILES


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_noticed_and_the_file_is_named(version, refusal, name):
    size = (version / name).stat().st_size
    rng = random.Random(name)
    for bit in (rng.randrange(size * 8) for _ in range(5)):
        flip(version / name, bit)
        assert f"{version}/{name} is" in refusal(), f"bit {bit}"
        flip(version / name, bit)
    verify_folder(version)


def starts_of(data):
    text = data.with_suffix(".idx").read_text()
    entries = read_index(text) if data.suffix == ".rec" else read_tar_index(text.splitlines())
    return [at for _, at in entries]


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        # Magic, length, label count, label, key, second key, image.
        ("recordio/train/train_00000.rec", (0, 5, 8, 14, 17, 26, 33, 500)),
        # Name, mode, size, time, checksum, type, magic, device, image.
        ("webdataset/train/train_00000.tar", (3, 101, 130, 140, 150, 156, 258, 340, 500, 600)),
    ],
)
def test_a_flipped_bit_anywhere_in_a_shard_is_noticed(version, refusal, name, inside):
    path = version / name
    starts, size = starts_of(path), path.stat().st_size
    assert starts[0] == 0
    assert len(starts) == 3
    places = [start + at for start in starts for at in inside]
    places += [start - 1 for start in [*starts[1:], size]]  # padding; a tar's end
    for at in places:
        flip(path, at * 8 + 3)
        assert f"{path} is damaged" in refusal(), f"byte {at}"
        flip(path, at * 8 + 3)
    verify_folder(version)


@pytest.mark.parametrize("name", DATABASES)
def test_a_flipped_bit_in_every_page_of_a_database_is_noticed(version, refusal, name):
    path = version / name
    rng = random.Random(name)
    for page in range(0, path.stat().st_size, 4096):
        bit = page * 8 + rng.randrange(4096 * 8)
        flip(path, bit)
        assert f"{path} is damaged: expected sha256" in refusal(), f"bit {bit}"
        flip(path, bit)
    verify_folder(version)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(version, refusal, name):
    (version / name).unlink()
    if name == "manifest.json":
        assert f"{version} is no dataset version" in refusal()
    else:
        assert f"/{name} is damaged: expected a file, found nothing" in refusal()


@pytest.mark.parametrize("change", ["longer", "shorter", "empty"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size_is_named(version, refusal, name, change):
    data = (version / name).read_bytes()
    if change == "longer":
        (version / name).write_bytes(data + b"x")
    else:
        (version / name).write_bytes(data[:-2] if change == "shorter" else b"")
    message = refusal()
    assert f"{name} is" in message
    if name != "manifest.json":
        assert f"expected {len(data):,} bytes" in message


@pytest.mark.parametrize("name", [*SHARDS[:2], *DATABASES, *IMAGES[:1], "records.parquet"])
def test_a_folder_in_place_of_a_file_is_named(version, refusal, name):
    (version / name).unlink()
    (version / name).mkdir()
    assert f"{name} is damaged: expected a file, found nothing" in refusal()


@pytest.mark.parametrize("name", ["recordio/val/val_00000.rec", "webdataset/val/val_00000.tar"])
def test_swapped_records_are_noticed(version, refusal, name):
    """Every record is sound: only index, table and digest tell."""
    starts = starts_of(version / name)
    data = (version / name).read_bytes()
    end = bytes(1024) if name.endswith(".tar") else b""
    bounds = [*starts, len(data) - len(end)]
    records = [data[a:b] for a, b in pairwise(bounds)]
    (version / name).write_bytes(b"".join(reversed(records)) + end)
    assert f"{name} is damaged" in refusal()


def test_two_swapped_images_are_noticed(version, refusal):
    one, other = version / IMAGES[0], version / IMAGES[1]
    one.rename(version / "x")
    other.rename(one)
    (version / "x").rename(other)
    assert "imagefolder/train/n00000001/n00000001_" in refusal()


def test_swapped_shards_are_noticed(version, refusal):
    """Both are sound, and each has its index beside it."""
    for suffix in (".rec", ".idx", ".lst"):
        one, other = (version / f"recordio/train/train_0000{n}{suffix}" for n in (0, 1))
        one.rename(version / "x")
        other.rename(one)
        (version / "x").rename(other)
    assert "recordio/train/train_0000" in refusal()


def test_a_manifest_that_was_edited_to_hide_a_missing_file_is_noticed(version, refusal):
    path = version / "manifest.json"
    fields = json.loads(path.read_text())
    fields["files"] = [f for f in fields["files"] if f["name"] != "quarantine.tsv"]
    path.write_text(json.dumps(fields))
    (version / "quarantine.tsv").unlink()
    assert "manifest.json is damaged: expected sha256" in refusal()


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
    "name",
    ["imagefolder/train/n99999999/x.JPEG", "imagefolder/val/n00000001/x.JPEG", "notes.txt",
     "imagefolder/x", "recordio/train/train_00002.rec", "lmdb/train_db/data.mdb-lock",
     "lmdb/lock.mdb", "webdataset/x.tar"],
)  # fmt: skip
def test_a_file_that_nobody_recorded_is_named(version, refusal, name):
    path = version / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"stray")
    assert f"{name} is damaged: expected no such file" in refusal()


def test_a_training_that_read_a_database_has_not_damaged_the_version(version):
    """LMDB's readers leave a lock file beside the database, unless they are told not to."""
    with lmdb.open(str(version / "lmdb/train_db"), readonly=True) as env, env.begin() as txn:
        assert txn.stat()["entries"] == 6
    assert (version / "lmdb/train_db/lock.mdb").exists()
    verify_folder(version)

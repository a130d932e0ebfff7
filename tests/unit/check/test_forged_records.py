"""Files that have the digests of their manifest, and yet do not fit each other."""

from dataclasses import replace

import lmdb
import pytest

from imagenet_etl.check import sample
from imagenet_etl.records.caffe import datum_parts, parse_datum
from imagenet_etl.records.webdataset import tar_header
from imagenet_etl.verify import verify_folder

REC, TAR, MDB = "recordio/{}.rec", "webdataset/{}.tar", "lmdb/val_db/data.mdb"
VAL = "val/val_00000"
DAMAGED = " is damaged: "


@pytest.fixture
def no_sample(monkeypatch):
    """Let nothing be decoded: what is noticed now is noticed in a million images."""
    monkeypatch.setattr(sample, "SIZE", 0)


@pytest.mark.parametrize(("field", "at"), [("label", 12), ("key", 16)])
def test_a_record_that_contradicts_the_table_is_noticed(version, refusal, forge, field, at):
    name = REC.format(VAL)
    data = bytearray((version / name).read_bytes())
    data[at] ^= 1
    forge(name, bytes(data))
    assert f"{name}{DAMAGED}expected record" in refusal(), field


def test_a_class_file_that_contradicts_the_table_is_noticed(version, refusal, forge):
    name = TAR.format(VAL)
    data = (version / name).read_bytes()
    at = data.index(b".cls\0")
    at += 512 - at % 512
    assert data[at : at + 1] in b"01"
    forge(name, data[:at] + (b"1" if data[at] == ord("0") else b"0") + data[at + 1 :])
    assert f"{name}{DAMAGED}expected record" in refusal()


def test_an_image_of_another_length_is_noticed(version, refusal, forge):
    """One byte of its padding, which the header now counts as image."""
    name = TAR.format("train/train_00000")
    data = (version / name).read_bytes()
    size = int(data[124:135], 8)
    assert size % 512
    longer = tar_header(data[:100].rstrip(b"\0").decode(), size + 1)
    forge(name, longer + data[512:])
    assert f"{name}{DAMAGED}expected record" in refusal()


def test_the_sample_notices_another_image_in_a_record_of_the_right_size(version, refusal, forge):
    name = REC.format("train/train_00000")
    data = bytearray((version / name).read_bytes())
    data[60] ^= 1
    forge(name, bytes(data))
    assert f"{name}{DAMAGED}expected the image of record" in refusal()


@pytest.mark.parametrize("name", [REC.format(VAL), TAR.format(VAL)])
def test_joined_shards_are_compared_with_the_digest_of_every_image(
    version, refusal, forge, no_sample, name
):
    """The shard's own digest was taken of parts that had been read back from the disk."""
    data = bytearray((version / name).read_bytes())
    data[700] ^= 1
    forge(name, bytes(data))
    assert f"{name}{DAMAGED}expected record" in refusal()


def messages(path):
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        return list(txn.cursor())


def database_of(records, folder):
    with lmdb.open(str(folder), map_size=1 << 26) as env, env.begin(write=True) as txn:
        for key, value in records:
            txn.put(key, value)
    return (folder / "data.mdb").read_bytes()


def test_a_database_that_was_written_anew_with_the_same_records_passes(version, tmp_path, forge):
    """LMDB's pages may lie in any order: keys and values are what counts."""
    forge(MDB, database_of(reversed(messages(version / MDB)), tmp_path / "db"))
    verify_folder(version)


def changed_datum(message, **fields):
    return b"".join(map(bytes, datum_parts(replace(parse_datum(message), **fields))))


def exchanged(records):
    """Swap two messages of one label, each made as long as it was by what decoders pass over."""
    (key, one), *rest, (last, other) = records
    one_image, other_image = (bytes(parse_datum(message).data) for message in (one, other))
    longest = max(len(one_image), len(other_image))
    return [(key, changed_datum(one, data=other_image.ljust(longest, b"\0")[: len(one_image)])),
            *rest, (last, other)]  # fmt: skip


CHANGES = {
    "an exchanged message of the same length": exchanged,
    "a message too few": lambda records: records[:-1],
    "a message too many": lambda records: [*records, (b"99999999_0", records[0][1])],
    "none at all": lambda records: [],
    "another key": lambda records: [(b"00000000_7", records[0][1]), *records[1:]],
    "another label": lambda records: [
        (records[0][0], changed_datum(records[0][1], label=7)), *records[1:]
    ],
    "a longer image": lambda records: [
        (records[0][0], changed_datum(records[0][1], data=b"x" * 5000)), *records[1:]
    ],
    "no Datum": lambda records: [*records[:-1], (records[-1][0], b"\x10")],
    "one bit of an image": lambda records: [
        *records[:-1], (records[-1][0], records[-1][1][:-40]
                        + bytes([records[-1][1][-40] ^ 1]) + records[-1][1][-39:])
    ],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_database_that_contradicts_the_table_is_noticed(
    version, tmp_path, refusal, forge, no_sample, change
):
    records = messages(version / MDB)
    assert len(records) == 4
    forge(MDB, database_of(CHANGES[change](records), tmp_path / "db"))
    assert f"{MDB}{DAMAGED}" in refusal()


def test_what_is_no_database_is_noticed(refusal, forge):
    forge(MDB, b"no database" * 1000)
    assert f"{MDB}{DAMAGED}found" in refusal()

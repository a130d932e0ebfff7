"""Tables and manifests that have their digests, and yet do not tell of what is there."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from imagenet_etl.manifest import parse_manifest
from imagenet_etl.records.lmdb import write_database
from imagenet_etl.verify import verify_folder

DAMAGED = " is damaged: "


def without(column, value):
    return lambda table: table.filter(pc.not_equal(table[column], value))


def with_column(name, change, outputs=("recordio",)):
    """Change a column in the rows of some formats."""

    def changed(table):
        at = table.schema.get_field_index(name)
        rows = zip(table["output"].to_pylist(), table[name].to_pylist(), strict=True)
        values = [change(value) if output in outputs else value for output, value in rows]
        field = table.schema.field(at)
        return table.set_column(at, field, pa.array(values, field.type))

    return changed


def turned(table):
    """Turn the order of RecordIO's rows around."""
    rest = table.filter(pc.not_equal(table["output"], "recordio"))
    rows = table.filter(pc.equal(table["output"], "recordio"))
    return pa.concat_tables([rest, rows.take(np.arange(rows.num_rows)[::-1])])


TABLE_CHANGES = {
    "a record too few": (lambda table: table.slice(1), "expected 10 records of"),
    "a format too few": (without("output", "lmdb"), "expected 10 records of lmdb, found 0"),
    "an unknown format": (
        with_column("output", lambda _: "tfrecord", ["lmdb"]),
        "expected outputs of recordio, lmdb, webdataset, imagefolder, found 'tfrecord'",
    ),
    "an unknown shard": (
        with_column("shard", lambda value: value.replace("val_00000.rec", "val_00009.rec")),
        "expected records in files of the manifest, found recordio/val/val_00009.rec",
    ),
    "records out of order": (turned, "one after the other"),
    "offsets beyond the file": (
        with_column("offset", lambda value: value + 10**12),
        "one after the other",
    ),
    "negative offsets": (with_column("offset", lambda value: -value), "one after the other"),
    "no offsets": (with_column("offset", lambda value: None), "a value in every field"),
    "no column": (lambda table: table.drop_columns(["offset"]), "a column offset of int64"),
    "a column of texts": (
        lambda table: table.set_column(
            table.schema.get_field_index("bytes"), "bytes", table["bytes"].cast(pa.string())
        ),
        "a column bytes of int64",
    ),
}


@pytest.mark.parametrize("change", TABLE_CHANGES)
def test_a_table_that_contradicts_the_files_is_noticed(refusal, forge_table, change):
    forged, told = TABLE_CHANGES[change]
    forge_table("records.parquet", forged)
    message = refusal()
    assert f"records.parquet{DAMAGED}" in message
    assert told in message


@pytest.mark.parametrize("output", ["recordio", "lmdb", "webdataset"])
@pytest.mark.parametrize(
    ("column", "value"), [("key", 77), ("label", 7), ("bytes", 3), ("sha256", "0" * 64)]
)
def test_a_table_that_contradicts_records_is_noticed(
    version, refusal, forge_table, output, column, value
):
    forge_table("records.parquet", with_column(column, lambda _: value, [output]))
    if column == "key" and output != "recordio":
        verify_folder(version)  # the other formats do not hold it
    else:
        assert f"/{output}/" in refusal()


def test_an_image_of_another_size_than_its_row_is_noticed(refusal, forge_table):
    forge_table("records.parquet", with_column("width", lambda _: 65, ["webdataset"]))
    assert "is damaged: expected 65x64 pixels, found (64, 64)" in refusal()


def test_a_table_in_one_row_group_says_the_same(version, forge_table):
    before = verify_folder(version)
    assert pq.ParquetFile(version / "records.parquet").num_row_groups == 4
    forge_table("records.parquet", lambda table: table)
    assert pq.ParquetFile(version / "records.parquet").num_row_groups == 1
    assert verify_folder(version) == before | {
        "bytes": sum(p.stat().st_size for p in version.rglob("*") if p.is_file())
        - (version / "manifest.json").stat().st_size
    }


def test_loose_files_that_the_table_of_records_does_not_count_are_noticed(
    version, refusal, forge_table
):
    forge_table("imagefolder/files.parquet", lambda table: table.slice(1))
    assert f"imagefolder/files.parquet{DAMAGED}expected 10 files, found 9" in refusal()


def test_a_name_that_is_listed_twice_hides_no_other_file(version, refusal, forge_table):
    def twice(table):
        return pa.concat_tables([table.slice(1), table.slice(1, 1)])

    forge_table("imagefolder/files.parquet", twice)
    assert "expected no such file, found one that the manifest does not know" in refusal()


def forge_manifest(version, **changes):
    path = version / "manifest.json"
    manifest = parse_manifest(path.read_bytes(), "manifest.json")
    path.write_bytes(replace(manifest, **changes).to_json())


@pytest.mark.parametrize("name", ["records.parquet", "imagefolder/files.parquet"])
def test_a_manifest_without_a_table_is_refused(version, refusal, name):
    files = json.loads((version / "manifest.json").read_text())["files"]
    assert name in {file["name"] for file in files}
    manifest = parse_manifest((version / "manifest.json").read_bytes(), "manifest.json")
    forge_manifest(version, files=tuple(file for file in manifest.files if file.name != name))
    assert f"manifest.json{DAMAGED}expected {name} among its files" in refusal()


@pytest.mark.parametrize(
    ("name", "data", "index"),
    [
        ("recordio/val/val_00001.rec", b"", b""),
        ("webdataset/val/val_00001.tar", bytes(1024), b"v1.2 0\n"),
    ],
)
def test_a_shard_whose_images_were_all_quarantined_holds_nothing(
    version, refusal, forge, name, data, index
):
    """The table tells of no record in it: an empty one is right, a copy of a full one is not."""
    files = parse_manifest((version / "manifest.json").read_bytes(), "manifest.json").files
    index_name = name[: name.rindex(".")] + ".idx"
    added = (replace(files[0], name=name), replace(files[0], name=index_name))
    forge_manifest(version, files=files + added)
    forge(name, data)
    forge(index_name, index)
    verify_folder(version)
    forge(name, (version / name.replace("00001", "00000")).read_bytes())
    assert f"{name}{DAMAGED}expected nothing after its last record" in refusal()


def test_a_database_whose_images_were_all_quarantined_holds_nothing(
    version, refusal, forge, tmp_path
):
    name = "lmdb/test_db/data.mdb"
    files = parse_manifest((version / "manifest.json").read_bytes(), "manifest.json").files
    forge_manifest(version, files=(*files, replace(files[0], name=name)))
    empty = write_database([], tmp_path / "db", 1 << 20)
    (version / name).parent.mkdir()
    forge(name, empty.read_bytes())
    verify_folder(version)
    forge(name, (version / "lmdb/val_db/data.mdb").read_bytes())
    assert f"{name}{DAMAGED}expected as many records as records.parquet tells of" in refusal()

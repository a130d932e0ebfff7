"""Byte for byte what MXNet 1.9.1 writes; golden/recordio/README.md tells how it was called."""

from pathlib import Path

import pytest
from tests.support.full import planted

from imagenet_etl.pipeline import run_stage
from imagenet_etl.records.im2rec import SEED, chunk_size, ratio_slices, shuffled_order
from imagenet_etl.records.recordio import (
    RecordIoWriter,
    list_line,
    read_frame,
    read_index,
    unpack_image,
)
from imagenet_etl.tables import row_groups

GOLDEN = Path(__file__).parents[2] / "golden/recordio"
TREE = GOLDEN / "tree"
PATHS = sorted(path.relative_to(TREE).as_posix() for path in TREE.rglob("*.JPEG"))
WNIDS = sorted({path.split("/")[0] for path in PATHS})
SHARDS = [path.relative_to(GOLDEN).with_suffix("").as_posix() for path in GOLDEN.rglob("*.rec")]


def label_of(path):
    return WNIDS.index(path.split("/")[0])


def listed(shard):
    """Return key, labels and path of each line of a golden list."""
    for line in (GOLDEN / f"{shard}.lst").read_text().splitlines():
        key, *labels, path = line.split("\t")
        yield int(key), tuple(float(label) for label in labels), path


def write(folder, name, rows):
    """Write records with our writer; return the bytes of its files by suffix."""
    with RecordIoWriter(folder, name) as writer:
        for key, labels, path in rows:
            writer.append(key, labels, (TREE / path).read_bytes(), path)
        files = writer.commit()
    return {file.path.suffix: file.path.read_bytes() for file in files}


def golden(shard):
    return {
        suffix: (GOLDEN / f"{shard}{suffix}").read_bytes() for suffix in (".rec", ".idx", ".lst")
    }


def rows_of(order):
    return [(key, (float(label_of(PATHS[key])),), PATHS[key]) for key in order]


def test_all_golden_shards_are_there():
    assert sorted(SHARDS) == [
        "chunks/t_0", "chunks/t_1", "chunks/t_2", "multilabel/t", "noshuffle/t", "plain/t",
    ]  # fmt: skip
    assert len(PATHS) == 15


def test_a_shuffled_list_and_its_records_are_equal(tmp_path):
    assert write(tmp_path, "t", rows_of(shuffled_order(len(PATHS), SEED))) == golden("plain/t")


def test_an_unshuffled_list_and_its_records_are_equal(tmp_path):
    assert write(tmp_path, "t", rows_of(range(len(PATHS)))) == golden("noshuffle/t")


@pytest.mark.parametrize("chunk", range(3))
def test_chunks_are_equal(tmp_path, chunk):
    order, size = shuffled_order(len(PATHS)), chunk_size(len(PATHS), 3)
    rows = rows_of(order[chunk * size : (chunk + 1) * size])
    assert write(tmp_path, f"t_{chunk}", rows) == golden(f"chunks/t_{chunk}")


def test_records_with_several_labels_are_equal(tmp_path):
    """The list was an input of that call, written by hand, so only its records are MXNet's."""
    written = write(tmp_path, "t", listed("multilabel/t"))
    expected = golden("multilabel/t")
    assert (written[".rec"], written[".idx"]) == (expected[".rec"], expected[".idx"])


def test_ratio_lists_are_equal():
    lines = [list_line(*row) for row in rows_of(shuffled_order(len(PATHS)))]
    lists = {name: "".join(lines[part]) for name, part in ratio_slices(len(lines), 0.6, 0.2)}
    assert lists == {
        name: (GOLDEN / f"ratio/t{name}.lst").read_text() for name in ("_test", "_train", "_val")
    }


def test_a_list_that_is_not_cut_has_no_suffix():
    assert list(ratio_slices(15, 1.0, 0.0)) == [("", slice(None))]


def test_labels_are_the_printed_ones():
    printed = (GOLDEN / "plain/labels.txt").read_text().splitlines()
    assert printed == [f"{wnid} {label}" for label, wnid in enumerate(WNIDS)]


@pytest.mark.parametrize("shard", SHARDS)
def test_mxnets_records_are_read_back(shard):
    data = (GOLDEN / f"{shard}.rec").read_bytes()
    index = list(read_index((GOLDEN / f"{shard}.idx").read_text()))
    at = 0
    rows = list(listed(shard))
    assert len(index) == len(rows) > 0
    for (key, offset), (listed_key, labels, path) in zip(index, rows, strict=True):
        assert at == offset
        content, at = read_frame(data, at)
        record = unpack_image(content)
        assert (record.key, key) == (listed_key, listed_key)
        assert record.labels == labels
        assert record.image == (TREE / path).read_bytes()
    assert at == len(data)


def test_the_record_that_holds_the_magic_was_split_by_mxnet():
    image = (TREE / "n00000022/n00000022_3.JPEG").read_bytes()
    magic = b"\x0a\x23\xd7\xce"
    assert [at for at in range(0, len(image), 4) if image[at : at + 4] == magic] == [8, 12, 16, 28]


@pytest.mark.parametrize(("shards", "names"), [(1, ["plain/t"]), (0, ["plain/t"]),
                         (3, ["chunks/t_0", "chunks/t_1", "chunks/t_2"])])  # fmt: skip
def test_the_plan_is_mxnets_list(tmp_path, shards, names):
    # In an order that is neither sorted nor the shuffle's.
    images = [(wnid, file) for wnid, _, file in (p.partition("/") for p in reversed(PATHS))]
    build = planted(tmp_path / "data", images, shards=shards)
    for stage in ("filter_classes", "split_val", "plan_shards"):
        plan = run_stage(build, stage).receipt
    segments = list(row_groups(build.storage, plan.key_of("plan.parquet")))
    assert len(segments) == len(names)
    for table, name in zip(segments, names, strict=True):
        rows = [
            (row["key"], (float(row["label"]),), f"{row['wnid']}/{row['file_name']}")
            for row in table.to_pylist()
        ]
        assert rows == list(listed(name))
        assert write(tmp_path, Path(name).name, rows) == golden(name)

"""Indexes, and the order of records, that have their digests and yet do not fit."""

import pytest

from imagenet_etl.records.recordio import frame, image_header, read_frame, read_index, unpack_image

REC, TAR, VAL = "recordio/{}.rec", "webdataset/{}.tar", "val/val_00000"
DAMAGED = " is damaged: "
INDEX = f"recordio/{VAL}.idx"
TAR_INDEX = f"webdataset/{VAL}.idx"
INDEX_CHANGES = {
    "another offset": lambda text: text.replace(b"\t0\n", b"\t4\n"),
    "another key": lambda text: b"9" + text,
    "a line too few": lambda text: text[: text[:-1].rindex(b"\n") + 1],
    "a line too many": lambda text: text + b"9\t9\n",
    "lines swapped": lambda text: b"".join(reversed(text.splitlines(keepends=True))),
    "empty": lambda text: b"",
}


@pytest.mark.parametrize("change", INDEX_CHANGES)
def test_an_index_that_contradicts_the_table_is_noticed(version, refusal, forge, change):
    text = (version / INDEX).read_bytes()
    assert INDEX_CHANGES[change](text) != text
    forge(INDEX, INDEX_CHANGES[change](text))
    assert f"{INDEX}{DAMAGED}expected the keys and offsets of records.parquet" in refusal()


TAR_INDEX_CHANGES = {
    "another offset": lambda lines: [lines[0], lines[1].replace(b" 512 ", b" 1024 "), *lines[2:]],
    "a line too few": lambda lines: [b"v1.2 3", *lines[1:-1]],
    "a line too many": lambda lines: [b"v1.2 5", *lines[1:], lines[-1]],
    "another number": lambda lines: [b"v1.2 5", *lines[1:]],
    "empty": lambda lines: [],
    "lines swapped": lambda lines: [lines[0], *lines[:0:-1]],
}


@pytest.mark.parametrize("change", TAR_INDEX_CHANGES)
def test_a_tars_index_that_contradicts_the_table_is_noticed(version, refusal, forge, change):
    lines = (version / TAR_INDEX).read_bytes().splitlines()
    assert len(lines) == 5
    forge(TAR_INDEX, b"\n".join(TAR_INDEX_CHANGES[change](lines)) + b"\n")
    assert f"{TAR_INDEX}{DAMAGED}" in refusal()


@pytest.mark.parametrize("name", [INDEX, TAR_INDEX])
def test_what_is_no_index_is_noticed(refusal, forge, name):
    forge(name, b"no index\n")
    assert f"{name}{DAMAGED}found" in refusal()


def renumbered(data, text):
    """Put the records of a shard in another order, with an index that fits."""
    starts = [at for _, at in read_index(text)]
    records = [read_frame(data, at)[0] for at in reversed(starts)]
    shard, lines = b"", ""
    for record in records:
        image = unpack_image(record)
        lines += f"{image.key}\t{len(shard)}\n"
        shard += frame(image_header(image.labels, image.key) + image.image)
    return shard, lines.encode()


def test_swapped_records_with_an_index_that_fits_are_noticed(version, refusal, forge):
    name = REC.format("train/train_00000")
    index = name.replace(".rec", ".idx")
    shard, lines = renumbered((version / name).read_bytes(), (version / index).read_text())
    assert len(shard) == (version / name).stat().st_size
    forge(name, shard)
    forge(index, lines)
    assert "recordio/train/train_00000." in refusal()


@pytest.mark.parametrize("name", [REC.format(VAL), TAR.format(VAL)])
def test_more_behind_the_last_record_is_noticed(version, refusal, forge, name):
    forge(name, (version / name).read_bytes() + bytes(1024))
    assert f"{name}{DAMAGED}" in refusal()

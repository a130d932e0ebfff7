"""An archive that changes between its index and the packing is noticed, whatever stays equal."""

import os

import pytest
from tests.support.archives import run_stages
from tests.support.tars import ARCHIVE, Entry, train_build, train_tar

from imagenet_etl.archives.location import archives_of, open_archive
from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.index import member_of
from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples.images import generated_jpeg
from imagenet_etl.tables import read_table

WNIDS = ("n00000001", "n00000002")


def classes(first=0):
    """Return two classes of images; ``first`` decides which image is which."""
    images = [generated_jpeg(seed, 40).ljust(4096, b"\0") for seed in range(6)]
    return {
        wnid: {f"{wnid}_{(k + first) % 3}.JPEG": images[3 * c + k] for k in range(3)}
        for c, wnid in enumerate(WNIDS)
    }


@pytest.fixture
def indexed(tmp_path):
    """Return a build whose archive is indexed, the archive, and the index's rows."""
    path = train_tar(tmp_path / ARCHIVE, classes())
    build = train_build(tmp_path, path)
    receipts = run_stages(build, "restructure_val")
    index = read_table(build.storage, receipts["untar"].key_of("images.parquet"))
    return build, path, receipts, index.to_pylist()


def overwrite(path, data):
    """Change a file so that neither its size nor its time tells."""
    state = path.stat()
    assert len(data) == state.st_size
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def read_all(build, receipts, rows):
    """Read every member as the packer does; return the names of those that have changed."""
    changed = []
    (ref,) = archives_of(receipts["download"]).values()
    with open_archive(build.storage, ref) as archive:
        for row in rows:
            try:
                archive.read(member_of(row))
            except ArchiveChanged as error:
                assert f"{ARCHIVE}: {row['member']} is no longer at byte" in str(error)
                changed.append(row["member"])
        archive.check()
    return changed


def test_an_archive_at_rest_is_read_to_the_end(indexed):
    build, _, receipts, rows = indexed
    assert read_all(build, receipts, rows) == []


def test_another_tar_of_equal_size_and_time_is_noticed_by_its_headers(indexed, tmp_path):
    build, path, receipts, rows = indexed
    other = train_tar(tmp_path / "other.tar", classes(first=1)).read_bytes()
    overwrite(path, other)
    assert read_all(build, receipts, rows) == [row["member"] for row in rows]


@pytest.mark.parametrize("at", [0, 100, 124, 136, 148, 156, 265, 345])
def test_a_change_anywhere_in_one_members_header_is_noticed(indexed, at):
    build, path, receipts, rows = indexed
    data = bytearray(path.read_bytes())
    data[rows[4]["header_offset"] + at] ^= 1
    overwrite(path, data)
    assert read_all(build, receipts, rows) == [rows[4]["member"]]


def test_a_sound_header_with_another_size_is_noticed(indexed):
    build, path, receipts, rows = indexed
    data = bytearray(path.read_bytes())
    start = rows[2]["header_offset"]
    data[start : start + 512] = Entry(rows[2]["file_name"].encode(), bytes(4095)).header()
    overwrite(path, data)
    assert read_all(build, receipts, rows) == [rows[2]["member"]]


def test_an_archive_that_was_cut_behind_our_back_is_noticed(indexed):
    build, path, receipts, rows = indexed
    (ref,) = archives_of(receipts["download"]).values()
    with open_archive(build.storage, ref) as archive:
        os.truncate(path, rows[3]["offset"] + 9)
        with pytest.raises(ArchiveChanged, match="is no longer at byte"):
            archive.read(member_of(rows[3]))
        with pytest.raises(ArchiveChanged, match="changed since it was verified"):
            archive.check()


@pytest.mark.parametrize("change", ["another tar", "one header"])
def test_packing_a_changed_archive_fails_and_leaves_no_version(indexed, tmp_path, change):
    build, path, _, rows = indexed
    run_stages(build, "plan_shards")
    data = bytearray(path.read_bytes())
    if change == "another tar":
        data = bytearray(train_tar(tmp_path / "other.tar", classes(first=1)).read_bytes())
    else:
        data[rows[5]["header_offset"] + 140] ^= 1
    overwrite(path, data)
    with build.locked() as held, pytest.raises(ArchiveChanged, match=f"{ARCHIVE}: n0000000"):
        run_stage(held, "pack")
    assert not list((tmp_path / "data").rglob("*.rec"))
    assert not list((tmp_path / "data/work/ilsvrc2012/pack").glob("*/receipt.json"))
    overwrite(path, train_tar(tmp_path / "again.tar", classes()).read_bytes())
    with build.locked() as held:
        assert run_stage(held, "pack").receipt.counts["packed"] == len(rows)


@pytest.mark.parametrize("stage", ["untar", "restructure_val", "plan_shards"])
def test_a_new_archive_at_the_path_asks_for_the_download_stage_again(indexed, tmp_path, stage):
    from imagenet_etl.errors import StageNotDone

    build, path, _, _ = indexed
    train_tar(tmp_path / "new.tar", classes(first=2)).replace(path)
    with build.locked() as held, pytest.raises(StageNotDone, match="Run download first"):
        run_stage(held, stage)

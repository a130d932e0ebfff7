"""A folder, or an archive behind a login, as what ``--source`` gives."""

import logging
import os
import shutil
import tarfile
import zipfile

import pytest
from tests.support.archives import ARCHIVE as TINY
from tests.support.archives import ROOT, build_of, run_stages, tiny_zip
from tests.support.tars import ARCHIVE, class_tar, train_build, train_tar

from imagenet_etl.archives.folder import folder_state
from imagenet_etl.archives.location import archives_of
from imagenet_etl.errors import (
    ArchiveChanged,
    ChecksumMismatch,
    CountMismatch,
    UnexpectedMember,
)
from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples.images import generated_jpeg
from imagenet_etl.tables import read_table

WNIDS = ("n00000001", "n00000002")
CLASSES = {
    wnid: {f"{wnid}_{k}.JPEG": generated_jpeg(10 * c + k, 40) for k in range(3)}
    for c, wnid in enumerate(WNIDS)
}


@pytest.fixture
def tree(tmp_path):
    """Unpack the training archive as its users do; return the folder."""
    root = tmp_path / "tree"
    for wnid, members in CLASSES.items():
        (root / wnid).mkdir(parents=True)
        for name, data in members.items():
            (root / wnid / name).write_bytes(data)
            os.utime(root / wnid / name, ns=(0, 1_340_000_000_000_000_000))
    return root


def index_of(build, receipts):
    table = read_table(build.storage, receipts["untar"].key_of("images.parquet"))
    return {(row["split"], row["wnid"], row["file_name"], row["size"]) for row in table.to_pylist()}


def test_a_folder_gives_the_images_of_the_archive_it_came_from(tmp_path, tree):
    unpacked = train_build(tmp_path / "a", tree)
    packed = train_build(tmp_path / "b", train_tar(tmp_path / ARCHIVE, CLASSES))
    found = index_of(unpacked, run_stages(unpacked, "untar"))
    assert found == index_of(packed, run_stages(packed, "untar"))
    assert len(found) == 6


@pytest.mark.parametrize("above", ["", "train/"])
def test_a_tar_of_the_unpacked_tree_is_accepted_too(tmp_path, tree, above):
    path = tmp_path / ARCHIVE
    with tarfile.open(path, "w") as archive:
        for wnid in WNIDS:
            archive.add(tree / wnid, f"{above}{wnid}")
    build = train_build(tmp_path, path)
    assert run_stages(build, "untar")["untar"].counts == {"train_images": 6, "classes": 2}


def pack_class(tree, wnid):
    """Put a class tar in the place of an unpacked class."""
    shutil.rmtree(tree / wnid)
    (tree / f"{wnid}.tar").write_bytes(class_tar(wnid, CLASSES[wnid]).data)


@pytest.mark.parametrize("packed", [WNIDS[:1], WNIDS[1:], WNIDS], ids=["first", "second", "all"])
def test_a_class_tar_in_a_zip_is_not_looked_into_and_refused_by_name(tmp_path, tree, packed):
    for wnid in packed:
        pack_class(tree, wnid)
    zipped = shutil.make_archive(tmp_path / "packed", "zip", tree)
    with pytest.raises(UnexpectedMember) as caught:
        run_stages(train_build(tmp_path, zipped), "untar")
    message = str(caught.value)
    assert message.startswith(f"{ARCHIVE}: {packed[0]}.tar is a tar that is not looked into")
    assert message.endswith("Unpack the archive, but not the class tars, and give the folder")


@pytest.mark.parametrize("packed", WNIDS)
def test_a_folder_of_class_tars_and_unpacked_ones_is_refused(tmp_path, tree, packed):
    pack_class(tree, packed)
    with pytest.raises(UnexpectedMember, match="mixes two layouts"):
        run_stages(train_build(tmp_path, tree), "untar")


def test_a_folder_of_class_tars_gives_the_same_images(tmp_path, tree):
    unpacked = train_build(tmp_path / "a", tree)
    expected = index_of(unpacked, run_stages(unpacked, "untar"))
    for wnid in WNIDS:
        pack_class(tree, wnid)
    build = train_build(tmp_path / "b", tree)
    receipts = run_stages(build, "untar")
    assert index_of(build, receipts) == expected
    assert receipts["untar"].facts["layouts"] == {ARCHIVE: "a folder of class tars"}


def test_a_tar_of_class_tars_and_unpacked_ones_loses_neither(tmp_path, tree):
    pack_class(tree, WNIDS[1])
    with tarfile.open(tmp_path / ARCHIVE, "w") as archive:
        archive.add(tree, ".")
    with pytest.raises(UnexpectedMember, match="mixes two layouts"):
        run_stages(train_build(tmp_path, tmp_path / ARCHIVE), "untar")


@pytest.mark.parametrize("inside", [False, True])
def test_tiny_imagenet_may_be_given_unpacked_with_or_without_its_outer_folder(tmp_path, inside):
    archive = tiny_zip(tmp_path)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "tree")
    build = build_of(tmp_path, tmp_path / "tree" / (ROOT if inside else ""))
    receipts = run_stages(build, "restructure_val")
    zipped = build_of(tmp_path / "zip", archive)
    assert receipts["untar"].counts == run_stages(zipped, "untar")["untar"].counts
    assert receipts["restructure_val"].counts == {"val_labels": 6}


def test_the_archive_is_noted_with_kind_size_and_the_digest_of_its_listing(tmp_path, tree):
    receipt = run_stages(train_build(tmp_path, tree), "download")["download"]
    (ref,) = archives_of(receipt).values()
    state = folder_state(tree, ARCHIVE)
    assert (ref.kind, ref.location, ref.size) == ("folder", str(tree), state.size)
    assert receipt.facts["digests"] == {ARCHIVE: {"listing_sha256": state.listing_sha256}}
    assert receipt.facts["bytes_fetched"] == 0


def test_a_demanded_digest_is_that_of_the_listing(tmp_path, tree):
    right = folder_state(tree, ARCHIVE).listing_sha256
    run_stages(train_build(tmp_path, f"{tree}#sha256={right}"), "download")
    with pytest.raises(ChecksumMismatch, match=f"expected sha256 {'0' * 64}, found {right}"):
        run_stages(train_build(tmp_path, f"{tree}#sha256={'0' * 64}"), "download")


def test_of_a_folder_the_published_counts_are_checked_and_the_rest_is_said(tmp_path, tree, caplog):
    build = train_build(tmp_path, tree, expect="published")
    with caplog.at_level(logging.INFO), pytest.raises(CountMismatch, match="1281167"):
        run_stages(build, "untar")
    assert f"download {ARCHIVE}: {tree} is a folder of" in caplog.text
    assert "size and digest are published for the packed file only" in caplog.text


def test_the_kind_of_an_archive_is_said(tmp_path, caplog):
    path = train_tar(tmp_path / "misnamed.zip", CLASSES)
    with caplog.at_level(logging.INFO):
        run_stages(train_build(tmp_path, path), "download")
    assert f"download {ARCHIVE}: {path} is a tar of {path.stat().st_size:,} bytes" in caplog.text


def rerun(build):
    with build.locked() as held:
        return {name: run_stage(held, name) for name in ("download", "untar")}


def test_an_unchanged_folder_is_not_indexed_again(tmp_path, tree):
    build = train_build(tmp_path, tree)
    rerun(build)
    assert all(outcome.reused for outcome in rerun(build).values())


@pytest.mark.parametrize("change", ["touched", "grown", "added"])
def test_a_changed_folder_is_indexed_again(tmp_path, tree, change):
    build, path = train_build(tmp_path, tree), tree / "n00000001/n00000001_0.JPEG"
    rerun(build)
    if change == "touched":
        os.utime(path, ns=(1, 1))
    elif change == "grown":
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        path.with_name("n00000001_77.JPEG").write_bytes(b"new")
    assert not any(outcome.reused for outcome in rerun(build).values())


def test_packing_notices_a_file_that_changed_since_it_was_indexed(tmp_path, tree):
    build = train_build(tmp_path, tree)
    run_stages(build, "plan_shards")
    path = tree / "n00000002/n00000002_1.JPEG"
    path.write_bytes(CLASSES["n00000002"]["n00000002_2.JPEG"])
    with build.locked() as held, pytest.raises(ArchiveChanged, match=f"{path} changed since"):
        run_stage(held, "pack")


@pytest.mark.parametrize(
    ("expect", "algorithms"), [("any", {"sha256"}), ("published", {"md5", "sha256"})]
)
def test_md5_is_computed_only_where_it_is_compared(tmp_path, expect, algorithms):
    from dataclasses import replace
    from hashlib import md5

    path = tiny_zip(tmp_path)
    build = build_of(tmp_path, path, expect=expect)
    (archive,) = build.facts.archives
    data = path.read_bytes()
    archive = replace(archive, size=len(data), md5=md5(data).hexdigest())
    build = replace(build, facts=replace(build.facts, archives=(archive,)))
    receipt = run_stages(build, "download")["download"]
    assert receipt.facts["digests"][TINY].keys() == algorithms


def test_a_note_without_md5_is_no_proof_when_one_is_asked_for(tmp_path):
    path = tiny_zip(tmp_path)
    run_stages(build_of(tmp_path, path), "download")
    with pytest.raises(ChecksumMismatch, match="248,100,043 bytes"):
        run_stages(build_of(tmp_path, path, expect="published"), "download")

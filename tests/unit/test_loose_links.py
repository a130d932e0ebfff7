"""Builds from an unpacked tree: ImageFolder shares with it what it can, and leaves it as it was."""

import os
from pathlib import Path

import pytest
from tests.support.small_disk import small_disk
from tests.support.tars import train_build
from tests.unit.records.sharing import KINDS, MTIME_NS, all_shared, sharing_disk, state_of

from imagenet_etl.errors import NotWritable
from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples.images import generated_jpeg

SIZES = {"n00000001": 40, "n00000002": 90}


def unpacked(root: Path) -> Path:
    """Write a training tree of small images and larger ones."""
    for number, (wnid, edge) in enumerate(SIZES.items()):
        (root / wnid).mkdir(parents=True)
        for k in range(3):
            path = root / wnid / f"{wnid}_{k}.JPEG"
            path.write_bytes(generated_jpeg(10 * number + k, edge))
            os.utime(path, ns=(0, MTIME_NS))
    return root


def files_of(root: Path) -> dict[str, Path]:
    return {f"{path.parent.name}/{path.name}": path for path in root.rglob("*.JPEG")}


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system."""
    with small_disk(tmp_path / "elsewhere", "8m") as folder:
        yield folder


@pytest.fixture(params=KINDS)
def disk(request, tmp_path):
    """A file system that shares blocks, in a file that is mounted."""
    with sharing_disk(tmp_path, request.param) as folder:
        yield folder


def run(folder: Path, tree: Path, last: str = "verify", **settings):
    """Run the stages up to ``last``; return the build and that stage's receipt."""
    build = train_build(folder, tree, formats=("imagefolder",), **settings)
    names = build.facts.stages
    with build.locked() as locked:
        for name in names[: names.index(last) + 1]:
            receipt = run_stage(locked, name).receipt
    return build, receipt


def published(folder: Path, tree: Path, **settings) -> dict[str, Path]:
    build, receipt = run(folder, tree, **settings)
    return files_of(build.storage.local_path(receipt.base) / "imagefolder/train")


def test_links_are_made_on_request_only(tmp_path):
    tree = unpacked(tmp_path / "source")
    originals = files_of(tree)
    before = {name: state_of(path) for name, path in originals.items()}
    for number, hardlink in enumerate((False, True)):
        found = published(tmp_path / f"{number}", tree, hardlink=hardlink)
        assert found.keys() == originals.keys()
        for name, path in found.items():
            assert path.read_bytes() == originals[name].read_bytes()
            assert path.samefile(originals[name]) == hardlink
            assert path.stat().st_nlink == (2 if hardlink else 1)
    assert {name: state_of(path) for name, path in originals.items()} == before


def test_images_that_are_changed_are_never_linked(tmp_path):
    tree = unpacked(tmp_path / "source")
    originals = files_of(tree)
    found = published(tmp_path, tree, hardlink=True, resize="short_edge:64")
    linked = {name: path.samefile(originals[name]) for name, path in found.items()}
    assert linked == {name: name.startswith("n00000001") for name in originals}


def test_a_build_whose_links_were_removed_again_leaves_the_source(tmp_path):
    tree = unpacked(tmp_path / "source")
    before = {name: (state_of(path), path.read_bytes()) for name, path in files_of(tree).items()}
    build, receipt = run(tmp_path, tree, "pack", hardlink=True)
    assert {path.stat().st_nlink for path in files_of(tree).values()} == {2}
    build.storage.delete(receipt.base)
    found = {name: (state_of(path), path.read_bytes()) for name, path in files_of(tree).items()}
    assert found == before
    assert {path.stat().st_nlink for path in files_of(tree).values()} == {1}


def test_a_source_on_another_file_system_is_refused_for_links_and_copied_without(
    tmp_path, elsewhere
):
    tree = unpacked(elsewhere / "source")
    with pytest.raises(NotWritable, match="cannot be hard linked"):
        published(tmp_path, tree, hardlink=True)
    found = published(tmp_path, tree)
    assert {name: path.read_bytes() for name, path in found.items()} == {
        name: path.read_bytes() for name, path in files_of(tree).items()
    }


def test_a_build_shares_the_blocks_of_its_source(disk):
    tree = unpacked(disk / "source")
    for path in files_of(tree).values():  # a few bytes lie in the inode, with none to share
        path.write_bytes(path.read_bytes() + bytes(20_000))
        os.utime(path, ns=(0, MTIME_NS))
    found = published(disk, tree)
    assert len(found) == 6
    assert all(map(all_shared, found.values()))

"""What the recipe writes on a tiny sample, and how that grows to the real archive."""

import tarfile
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.data import add_member, class_tar
from benchmarks.measure import Step
from benchmarks.recipe_bytes import (
    FALL11_BYTES,
    FALL11_CLASSES,
    FALL11_IMAGES,
    Measured,
    caption,
    kind_here,
    recipe,
    table,
    with_removed,
)
from benchmarks.traced import Made
from benchmarks.written import PART_ROWS, Size, Written, watched

IMAGE = bytes(range(256)) * 4 + b"x"  # 1,025 bytes: three more with padding
CLASSES, EACH = 3, 4


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "whole.tar"
    with tarfile.open(path, "w") as outer:
        for number in range(CLASSES):
            wnid = f"n{number:08d}"
            add_member(outer, f"{wnid}.tar", class_tar(wnid, [IMAGE] * EACH))
    return path


def test_the_recipe_makes_every_image_a_file_and_every_byte_three_times(
    archive: Path, tmp_path: Path
) -> None:
    outer, classes, dropped, val, listed, packed = recipe(archive, tmp_path / "run")
    assert outer.files == {"classes": CLASSES}
    assert outer.payload == sum(len(class_tar(f"n{n:08d}", [IMAGE] * EACH)) for n in range(CLASSES))
    assert classes.files == {"images": CLASSES * EACH}
    assert classes.payload == CLASSES * EACH * len(IMAGE)
    assert (dropped.files, dropped.moved) == ({}, {"val": 0})
    assert (val.files, val.moved, val.payload) == ({}, {"val": 2 * CLASSES}, 0)
    assert listed.files == {"": 2}
    assert packed.payload == CLASSES * EACH * (8 + 24 + len(IMAGE) + 3)


def test_lists_are_those_of_im2rec(archive: Path, tmp_path: Path) -> None:
    list(recipe(archive, tmp_path / "run"))
    lines = sorted((tmp_path / "run/val.lst").read_text().splitlines())
    assert len(lines) == 2 * CLASSES
    key, label, path = lines[-1].split("\t")
    assert (key, label) == ("5", "2.000000")
    assert (tmp_path / "run" / path).is_file()


def test_what_is_renamed_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    step = Step(["bash", "-c", "mv a b && echo two >c.rec && echo >d"], tmp_path, name="step")
    done = watched(step, tmp_path, lambda path: "")
    assert (done.payload, done.tables, done.files) == (4, 1, {"": 2})
    assert done.moved == {"val": 1}


def test_each_part_grows_with_what_it_goes_with() -> None:
    sample = Size(bytes=1000, images=10, classes=2, shards=1, val=4)
    full = Size(bytes=5000, images=30, classes=20, shards=7, val=8)
    step = Written("x", 800, 10, {"images": 10, "classes": 2, "shards": 3, "": 6}, {"val": 4})
    assert full.times(step, sample) == (800 * 5 + 10 * 3, 30 + 20 + 21 + 6, 8)


def test_the_index_grows_by_whole_parts() -> None:
    sample = Size(bytes=1, images=5000, classes=1, shards=1, val=1)
    full = Size(bytes=1, images=3 * PART_ROWS + 1, classes=1, shards=1, val=1)
    assert full.times(Written("x", files={"parts": 2}), sample) == (0, 8, 0)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/d/datasets/x/v1/recordio/train/train_00012.idx", "shards"),
        ("/d/work/x/pack/a/segments/00012.json", "shards"),
        ("/d/work/x/pack/a/leases/segment-00012/00000001.json", "shards"),
        ("/d/.staging/here-1-a/segment-12-b/records.parquet", "shards"),
        ("/d/work/x/untar/a/parts/fall11_whole.tar/00000.parquet", "parts"),
        ("/d/datasets/x/v1/manifest.json", ""),
    ],
)
def test_files_are_told_by_what_their_number_goes_with(path: str, kind: str) -> None:
    assert kind_here(path) == kind


def test_what_is_made_and_not_left_was_removed() -> None:
    left = Written("here", payload=900, tables=50, files={"shards": 3, "": 2}, moved={"val": 0})
    made = Made(Counter({"shards": 8, "": 2, "parts": 4}), Counter({"shards": 5}), 1000)
    everything, removed = with_removed(left, made)
    assert everything.files == {"shards": 8, "": 2, "parts": 4}
    assert everything.moved == {"shards": 5}
    assert (everything.payload, everything.tables) == (900, 100)
    assert removed.files == {"shards": 5, "parts": 4}
    assert (removed.payload, removed.tables) == (0, 50)


@pytest.fixture
def found() -> Measured:
    sample = Size(FALL11_BYTES // 1000, FALL11_IMAGES // 1000, FALL11_CLASSES // 10, 1220, 100)
    steps = [Written("untar", sample.bytes, files={"images": sample.images}, counted=10**6)]
    mine = Written("here", sample.bytes // 2, files={"shards": 8 * sample.shards})
    removed = Written("removed again", files={"shards": 5 * sample.shards})
    return Measured(steps, mine, removed, sample)


def test_the_table_has_a_row_a_step_and_both_sums(found: Measured) -> None:
    lines = table(found).splitlines()
    assert lines[2].startswith("| untar | 1.31 TB | 14,197,1")
    assert lines[3].startswith("| **the recipe** | 1.31 TB |")
    heaps = 2 * 55
    assert lines[4] == f"| **this project** | 0.66 TB | {8 * 1220 + heaps:,} | 0 |"
    assert lines[5] == f"| removed again | 2.1 GB | {5 * 1220 + heaps:,} |  |"
    assert lines[6] == "| the one against the other | 2.0x | 1,438x | |"
    assert "the kernel counted 1 MB" in caption(found)
    assert "6,100 of this project's files were removed again" in caption(found)


def test_what_was_not_looked_for_is_said(found: Measured) -> None:
    unseen = Measured(found.steps, found.mine, None, found.sample)
    assert "removed again" not in table(unseen)
    assert "there is no strace" in caption(unseen)

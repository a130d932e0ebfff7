"""What the recipe writes on a tiny sample, and how that grows to the real archive."""

import tarfile
from pathlib import Path

import pytest
from benchmarks.data import add_member, class_tar
from benchmarks.measure import Step
from benchmarks.recipe_bytes import (
    FALL11_BYTES,
    FALL11_CLASSES,
    FALL11_IMAGES,
    Size,
    Written,
    caption,
    recipe,
    table,
    watched,
)

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
    assert (dropped.files, dropped.moved) == ({}, 0)
    assert (val.files, val.moved, val.payload) == ({}, 2 * CLASSES, 0)
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
    assert (done.moved, done.payload, done.tables, done.files) == (1, 4, 1, {"": 2})


def test_each_part_grows_with_what_it_goes_with() -> None:
    sample = Size(bytes=1000, images=10, classes=2, shards=1, val=4)
    full = Size(bytes=5000, images=30, classes=20, shards=7, val=8)
    step = Written("x", 800, 10, {"images": 10, "classes": 2, "shards": 3, "": 6}, 4)
    assert full.times(step, sample) == (800 * 5 + 10 * 3, 30 + 20 + 21 + 6, 8)


def test_the_table_has_a_row_a_step_and_both_sums() -> None:
    sample = Size(FALL11_BYTES // 1000, FALL11_IMAGES // 1000, FALL11_CLASSES // 10, 1220, 100)
    steps = [Written("untar", sample.bytes, files={"images": sample.images}, counted=10**6)]
    mine = Written("here", sample.bytes // 2, files={"shards": 3 * sample.shards})
    lines = table(steps, mine, sample).splitlines()
    assert lines[2].startswith("| untar | 1.31 TB | 14,197,1")
    assert lines[3].startswith("| **the recipe** | 1.31 TB |")
    assert lines[4] == "| **this project** | 0.66 TB | 3,660 | 0 |"
    assert lines[5] == "| the one against the other | 2.0x | 3,879x | |"
    assert "the kernel counted 1 MB" in caption(steps, mine, sample)

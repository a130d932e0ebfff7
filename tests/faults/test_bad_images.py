"""FAULT 16: bad images are quarantined within the budget, and fail the run beyond it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.support.archives import (
    ARCHIVE,
    HTML,
    ROOT,
    build_of,
    encoded,
    picture,
    run_stages,
    tiny_members,
    tiny_zip,
    write_zip,
)

from imagenet_etl.errors import ConfigError, TooManyBadImages
from imagenet_etl.records.recordio import list_line, read_frame, unpack_image
from imagenet_etl.tables import read_table
from imagenet_etl.verify import verify_folder

ROOT_FOLDER = Path(__file__).parents[2]
JPEG = encoded(picture(64, 64, seed=9))
BAD = {
    "train/n00000001/images/n00000001_1.JPEG": (b"", "empty file"),
    "train/n00000002/images/n00000002_0.JPEG": (JPEG[:-40], "cut off before its end-of-image"),
    "train/n00000003/images/n00000003_3.JPEG": (
        HTML,
        "is no readable image: it starts with b'<!DO",
    ),
    "val/images/val_4.JPEG": (
        bytes(range(256)) * 4,
        "is no readable image: it starts with b'\\x00",
    ),
}
CHANGES = {name: data for name, (data, _) in BAD.items()}
WNID_OF_VAL_4 = "n00000002"


def command(*arguments):
    env = os.environ | {"PYTHONPATH": str(ROOT_FOLDER / "include")}
    return subprocess.run(
        [sys.executable, "-m", "imagenet_etl", *map(str, arguments)],
        env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def prepare(folder, archive, *options):
    return command(
        "prepare", "tiny_imagenet", "--data-dir", folder / "data", "--source",
        f"{ARCHIVE}={archive}", "--expect", "any", "--workers", 2, "--format", "recordio",
        "--format", "imagefolder", *options,
    )  # fmt: skip


def versions(folder):
    """Return what is published: nothing, not even a folder, unless a run succeeded."""
    return sorted((folder / "data/datasets").rglob("*"))


def quarantined(version):
    head, *lines = (version / "quarantine.tsv").read_text().splitlines()
    assert head == "path\twnid\toffset\treason"
    return [line.split("\t") for line in lines]


def records_of(version, split):
    data = (version / f"recordio/{split}/{split}_00000.rec").read_bytes()
    at = 0
    while at < len(data):
        content, at = read_frame(data, at)
        yield unpack_image(content)


def test_within_the_budget_bad_images_are_quarantined_and_nothing_else_is_lost(tmp_path):
    archive = tiny_zip(tmp_path, CHANGES)
    done = prepare(tmp_path, archive, "--max-bad", len(BAD))
    assert done.returncode == 0, done.stderr
    version = Path(done.stdout.strip())

    rows = quarantined(version)
    assert {path for path, *_ in rows} == {f"{ROOT}/{name}" for name in BAD}
    with zipfile.ZipFile(archive) as opened:
        for path, wnid, offset, reason in rows:
            name = path.removeprefix(f"{ROOT}/")
            assert wnid == (WNID_OF_VAL_4 if name.startswith("val") else name.split("/")[1])
            assert int(offset) == opened.getinfo(path).header_offset + 30 + len(path)
            assert BAD[name][1] in reason

    manifest = json.loads((version / "manifest.json").read_text())
    told = [[i["path"], i["wnid"], str(i["offset"]), i["reason"]] for i in manifest["quarantined"]]
    assert told == rows
    counts = manifest["counts"]
    assert (counts["expected"], counts["packed"], counts["quarantined"]) == (18, 14, 4)
    assert counts["train_packed"] + counts["val_packed"] == counts["packed"]

    members = tiny_members(tmp_path)
    good = {data for name, data in members.items()
            if name.removeprefix(f"{ROOT}/") not in BAD and "/test/" not in name
            and name.endswith(".JPEG")}  # fmt: skip
    packed = [r.image for split in ("train", "val") for r in records_of(version, split)]
    assert len(packed) == len(good) == 14
    assert set(packed) == good
    loose = [path.read_bytes() for path in (version / "imagefolder").rglob("*.JPEG")]
    assert sorted(loose) == sorted(packed)


def test_what_was_quarantined_leaves_a_gap_in_the_keys_and_no_other_trace(tmp_path):
    """Keys are im2rec's for the whole list, so they stay comparable with an undamaged build."""
    build = build_of(tmp_path, tiny_zip(tmp_path, CHANGES), max_bad=4)
    version = build.storage.local_path(run_stages(build)["verify"].base)
    table = read_table(build.storage, f"{version.relative_to(build.storage.root)}/records.parquet")
    rows = [row for row in table.to_pylist() if row["split"] == "train"]
    assert sorted(row["key"] for row in rows) == [0, 2, 3, 5, 6, 7, 8, 9, 10]
    lines = "".join(
        list_line(row["key"], (row["label"],), f"{row['wnid']}/{Path(row['member']).name}")
        for row in rows
    )
    assert (version / "recordio/train/train_00000.lst").read_text() == lines


def test_a_version_with_quarantined_images_verifies_and_a_rerun_adopts_it(tmp_path):
    archive = tiny_zip(tmp_path, CHANGES)
    first = prepare(tmp_path, archive, "--max-bad", 9)
    version = Path(first.stdout.strip())
    before = {path: path.stat() for path in versions(tmp_path)}
    assert verify_folder(version)["records"] == 2 * 14
    checked = command("verify", version)
    assert checked.returncode == 0, checked.stderr
    assert "all good" in checked.stdout
    again = prepare(tmp_path, archive, "--max-bad", 9)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "pack             nothing to do" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == {
        path: state.st_mtime_ns for path, state in before.items()
    }


def test_quarantine_is_the_same_whoever_packs(tmp_path):
    archive, trees = tiny_zip(tmp_path, CHANGES), []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        build = build_of(folder, archive, max_bad=4, workers=workers, shards=4)
        version = build.storage.local_path(run_stages(build)["verify"].base)
        files = (path for path in version.rglob("*") if path.is_file())
        trees.append({path.relative_to(version).as_posix(): path.read_bytes() for path in files})
    assert trees[0] == trees[1] != {}


@pytest.mark.parametrize("workers", [1, 2])
def test_beyond_the_budget_the_run_fails_and_nothing_is_published(tmp_path, workers):
    build = build_of(tmp_path, tiny_zip(tmp_path, CHANGES), max_bad=3, workers=workers)
    with pytest.raises(TooManyBadImages) as caught:
        run_stages(build)
    message = str(caught.value)
    assert "expected at most 3 of 18, found 4; the first is " in message
    assert "at byte " in message
    assert message.endswith("or allow more with --max-bad")
    assert message.isprintable()
    assert versions(tmp_path) == []


def test_by_default_one_image_in_ten_thousand_or_one_may_be_bad(tmp_path):
    done = prepare(tmp_path, tiny_zip(tmp_path, dict(list(CHANGES.items())[:2])))
    assert done.returncode == 1
    assert done.stdout == ""
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: TooManyBadImages: too many images had to be quarantined")
    assert f"at most 1 of 18, found 2; the first is {ROOT}/train/" in error
    assert versions(tmp_path) == []


def test_a_failed_run_is_mended_by_a_larger_budget(tmp_path):
    archive = tiny_zip(tmp_path, CHANGES)
    failed = prepare(tmp_path, archive, "--max-bad", 0)
    assert (failed.returncode, versions(tmp_path)) == (1, [])
    mended = prepare(tmp_path, archive, "--max-bad", 4)
    assert mended.returncode == 0, mended.stderr
    assert len(quarantined(Path(mended.stdout.strip()))) == 4


def test_without_any_bad_image_a_budget_of_zero_is_enough(tmp_path):
    receipts = run_stages(build_of(tmp_path, tiny_zip(tmp_path), max_bad=0))
    assert receipts["verify"].counts["packed"] == receipts["verify"].counts["expected"] == 18


def test_content_that_its_archive_damaged_is_quarantined_too(tmp_path):
    path = write_zip(tmp_path / ARCHIVE, tiny_members(tmp_path), zipfile.ZIP_STORED)
    name = f"{ROOT}/train/n00000002/images/n00000002_2.JPEG"
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo(name).header_offset + 30 + len(name) + 300
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    build = build_of(tmp_path, path)
    receipt = run_stages(build)["verify"]
    assert receipt.counts["quarantined"] == 1
    version = build.storage.local_path(receipt.base)
    assert quarantined(version) == [
        [name, "n00000002", str(at - 300), "content does not match the archive's CRC-32"]
    ]


def test_strange_but_sound_images_are_repaired_and_not_quarantined(tmp_path):
    """FAULT 17, from the archive to the records: found by content, whatever the name says."""
    strange = {
        "train/n00000001/images/n00000001_0.JPEG": encoded(picture(64, 64), "PNG"),
        "train/n00000001/images/n00000001_1.JPEG": encoded(picture(64, 64, "CMYK")),
        "train/n00000001/images/n00000001_2.JPEG": encoded(picture(64, 64).quantize(16), "GIF"),
        "train/n00000001/images/n00000001_3.JPEG": encoded(picture(64, 64, "L")),
    }
    build = build_of(tmp_path, tiny_zip(tmp_path, strange), max_bad=0)
    receipt = run_stages(build)["verify"]
    counts = receipt.counts
    assert (counts["repaired"], counts["copied"], counts["quarantined"]) == (3, 15, 0)
    images = [r.image for r in records_of(build.storage.local_path(receipt.base), "train")]
    assert all(image.startswith(b"\xff\xd8\xff") for image in images)
    assert strange["train/n00000001/images/n00000001_3.JPEG"] in images


def test_an_oversize_image_is_quarantined_from_its_header(tmp_path):
    """FAULT 18: 400 megapixels that a header claims are never decoded."""
    at = JPEG.index(b"\xff\xc0") + 5
    huge = JPEG[:at] + b"\x4e\x20\x4e\x20" + JPEG[at + 4 :]
    build = build_of(tmp_path, tiny_zip(tmp_path, {"val/images/val_0.JPEG": huge}))
    version = build.storage.local_path(run_stages(build)["verify"].base)
    (row,) = quarantined(version)
    assert row[3] == "20000x20000 pixels, above the limit of 64000000"


def test_a_negative_budget_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="max_bad"):
        build_of(tmp_path, tmp_path / ARCHIVE, max_bad=-1)

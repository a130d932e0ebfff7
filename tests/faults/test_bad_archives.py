"""FAULTS 9, 11 to 15: an archive that cannot be accepted ends the run in one line, traceless."""

import stat
import warnings
import zipfile

import pytest
from tests.support.archives import (
    ARCHIVE,
    HTML,
    ROOT,
    Entry,
    raw_zip,
    tiny_members,
    tiny_zip,
    write_zip,
)

from imagenet_etl.cli import main

ANNOTATIONS = "val/val_annotations.txt"
STRANGE = {"train/n99999999/images/n99999999_0.JPEG": b"x"}


@pytest.fixture
def prepare(tmp_path, capsys, monkeypatch):
    """Run ``prepare`` on an archive; return its exit code and what it printed as the error."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the test run keeps its own

    def run(archive, expect="any"):
        code = main([
            "prepare", "tiny_imagenet", "--data-dir", str(tmp_path / "data"), "--workers", "1",
            "--source", f"{ARCHIVE}={archive}", "--expect", expect,
        ])  # fmt: skip
        captured = capsys.readouterr()
        assert captured.out == ""
        errors = [
            line for line in captured.err.splitlines() if not line.startswith(("down", "unta"))
        ]
        return code, errors

    return run


@pytest.fixture
def refused(prepare, tmp_path):
    """Run ``prepare``; make sure that it is refused without a trace, and return its one line."""

    def run(archive, expect="any"):
        before = sorted(tmp_path.iterdir())
        code, errors = prepare(archive, expect)
        assert code == 1
        assert len(errors) == 1, errors
        assert errors[0].startswith("error: ")
        assert errors[0].isprintable()
        assert not (tmp_path / "data/datasets").exists()
        assert list((tmp_path / "data/.staging").iterdir()) == []
        assert sorted(tmp_path.iterdir()) == sorted({*before, tmp_path / "data"})
        return errors[0]

    return run


def test_the_sample_itself_is_accepted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    archive = tiny_zip(tmp_path)
    arguments = ["prepare", "tiny_imagenet", "--data-dir", str(tmp_path / "data"), "--workers", "1"]
    assert main([*arguments, "--source", f"{ARCHIVE}={archive}", "--expect", "any"]) == 0
    assert len(list((tmp_path / "data/datasets/tiny_imagenet").glob("*/manifest.json"))) == 1


def test_a_missing_archive(refused, tmp_path):
    line = refused(tmp_path / "nowhere.zip")
    assert f"error: SourceNotFound: {tmp_path}/nowhere.zip is not a file" in line
    assert f"Pass --source {ARCHIVE}=PATH_OR_URL" in line


def test_a_zip_of_something_else(refused, tmp_path):
    line = refused(write_zip(tmp_path / "other.zip", {"holiday/beach.JPEG": b"x"}))
    assert (
        f"error: UnexpectedMember: {ARCHIVE}: member holiday/beach.JPEG does not belong to" in line
    )
    assert "Is it the right archive?" in line


@pytest.mark.parametrize("content", [b"", HTML, b"tar" * 500], ids=["empty", "html", "noise"])
def test_what_is_no_archive(refused, tmp_path, content):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    line = refused(path)
    assert f"error: BadArchive: {ARCHIVE} is no archive that can be read in place" in line
    assert "expected a tar, a zip or a folder, found" in line
    assert line.endswith("Download it again")


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_zip(refused, tmp_path, keep):
    path = tiny_zip(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert f"error: BadArchive: {ARCHIVE} has no zip end record" in refused(path)


def test_a_zip_cut_at_a_member_and_given_a_new_end(refused, tmp_path):
    """What is left is a sound zip: only labels and counts tell what is missing."""
    members = tiny_members(tmp_path)
    kept = dict(list(members.items())[: len(members) // 2])
    line = refused(write_zip(tmp_path / ARCHIVE, kept))
    assert "error: LabelError: val/val_annotations.txt is missing" in line


def test_the_wrong_digest_with_expect_published(refused, tmp_path):
    path = tiny_zip(tmp_path)
    line = refused(path, "published")
    assert f"error: ChecksumMismatch: {path}" in line
    assert "expected 248,100,043 bytes" in line
    assert f"found {path.stat().st_size:,}" in line


def test_other_counts_with_expect_published(refused, tmp_path, monkeypatch):
    """An archive whose digest nobody published is still held against the published counts."""
    from dataclasses import replace

    from imagenet_etl import datasets

    facts = datasets.TINY_IMAGENET
    archives = (replace(facts.archives[0], size=None, md5=""),)
    monkeypatch.setitem(datasets.DATASETS, facts.name, replace(facts, archives=archives))
    line = refused(tiny_zip(tmp_path), "published")
    assert "error: CountMismatch: Tiny ImageNet archive holds another number of images" in line
    assert "expected {'train': 100000, 'val': 10000, 'test': 10000} in 200 classes" in line
    assert "found {'train': 12, 'val': 6, 'test': 2} in 3 classes" in line
    assert "For a sample, run with --expect any" in line


def test_a_missing_annotation(refused, tmp_path):
    text = tiny_members(tmp_path)[f"{ROOT}/{ANNOTATIONS}"].split(b"\n")
    line = refused(tiny_zip(tmp_path, {ANNOTATIONS: b"\n".join(text[1:])}))
    assert f"error: LabelError: {ANNOTATIONS} has no line for 1 validation images" in line
    assert "the first image without one is val_0.JPEG" in line
    assert "Download it again" in line


def test_a_strange_class_folder(refused, tmp_path):
    line = refused(tiny_zip(tmp_path, STRANGE))
    assert "error: LabelError: class folder n99999999 is not in wnids.txt" in line
    assert "Download it again" in line


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry(b"../../canary", b"evil"), "a member's name is unsafe"),
        (Entry(b"/tmp/canary", b"evil"), "a member's name is unsafe"),
        (Entry(b"tiny\\..\\canary", b"evil"), "a member's name is unsafe"),
        (Entry(b"canary\n2026 all went well", b"evil"), "a member's name is unsafe"),
        (Entry(b"\xff\xfe", b"evil", flags=0x800), "a member's name is not text"),
        (Entry(f"{ROOT}/wnids.txt".encode(), b"../canary", mode=stat.S_IFLNK | 0o777),
         f"{ROOT}/wnids.txt is not a regular file"),
        (Entry(f"{ROOT}/wnids.txt".encode(), mode=stat.S_IFCHR | 0o666), "not a regular file"),
        (Entry(f"{ROOT}/wnids.txt".encode(), mode=stat.S_IFIFO | 0o666), "not a regular file"),
        (Entry(f"{ROOT}/wnids.txt".encode(), flags=1), "encryption"),
        (Entry(f"{ROOT}/wnids.txt".encode(), method=14), "compression method 14"),
        (Entry(f"{ROOT}/wnids.txt".encode(), method=8, size=1 << 30), "is too large"),
    ],
    ids=range(11),
)  # fmt: skip
def test_hostile_members(refused, tmp_path, entry, message):
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    path = tmp_path / "x.zip"
    path.write_bytes(raw_zip([entry, Entry(f"{ROOT}/words.txt".encode(), b"evil")]))
    line = refused(path)
    assert line.startswith(f"error: UnsafeMember: {ARCHIVE}")
    assert message in line
    assert canary.read_text() == "untouched"


@pytest.mark.parametrize("second", ["val_0.JPEG", "VAL_0.jpeg"])
def test_duplicates_and_case_collisions(refused, tmp_path, second):
    members = tiny_members(tmp_path).items()
    path = tmp_path / "x.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile's, about the duplicate
        for name, data in [*members, (f"{ROOT}/val/images/{second}", b"again")]:
            archive.writestr(name, data)
    line = refused(path)
    assert f"error: UnexpectedMember: {ARCHIVE}: {ROOT}/val/images/{second} appears twice" in line
    assert "found headers at bytes" in line


def test_a_bomb_in_a_label_file(refused, tmp_path):
    members = tiny_members(tmp_path)
    name = f"{ROOT}/words.txt"
    entries = [Entry(n.encode(), d) for n, d in members.items() if n != name]
    path = tmp_path / "x.zip"
    path.write_bytes(raw_zip([*entries, Entry(name.encode(), bytes(5 << 20), method=8, size=50)]))
    line = refused(path)
    assert f"error: BadArchive: {ARCHIVE}: {name}: inflates to more than the 50 bytes" in line

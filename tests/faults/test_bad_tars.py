"""FAULTS 9 to 15 on tars: what cannot be accepted ends ``untar`` in one line, traceless."""

import bz2
import tarfile

import pytest
from tests.support.tars import (
    ARCHIVE,
    Entry,
    class_tar,
    long_name,
    pax,
    raw_tar,
    train_tar,
)

from imagenet_etl.cli import main

WNIDS = ("n00000001", "n00000002")
CLASSES = {wnid: {f"{wnid}_{k}.JPEG": b"image " * (30 * k + 1) for k in range(4)} for wnid in WNIDS}
FIRST = class_tar(WNIDS[0], CLASSES[WNIDS[0]])
INNER = class_tar(WNIDS[1], CLASSES[WNIDS[1]]).data
SECOND_AT = len(bytes(FIRST)) + 512
"""Where the content of the second class tar starts in the outer one."""


def with_second(inner):
    """Return a training archive whose second class tar has this content."""
    return raw_tar([FIRST, Entry(f"{WNIDS[1]}.tar".encode(), inner)])


def with_more(*entries):
    """Return a training archive with more members in its second class tar."""
    return with_second(INNER[:-1024] + raw_tar(entries))


@pytest.fixture
def untar(tmp_path, capsys, monkeypatch):
    """Run ``download`` and ``untar``; return the exit code and what was printed as the error."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the test run keeps its own

    def run(archive):
        for stage in ("download", "untar"):
            code = main([
                stage, "ilsvrc2012", "--data-dir", str(tmp_path / "data"),
                "--source", f"{ARCHIVE}={archive}", "--expect", "any",
            ])  # fmt: skip
            if code:
                break
        errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
        return code, errors

    return run


@pytest.fixture
def refused(untar, tmp_path):
    """Make sure that ``untar`` refuses a tar in one line and leaves nothing; return the line."""

    def run(data):
        path = tmp_path / ARCHIVE
        path.write_bytes(data)
        canary = tmp_path / "canary"
        canary.write_text("untouched")
        before = sorted(tmp_path.iterdir())
        code, errors = untar(path)
        assert code == 1
        assert len(errors) == 1, errors
        assert errors[0].isprintable()
        assert not list((tmp_path / "data").rglob("*.parquet"))
        assert not list((tmp_path / "data").glob("work/*/untar/*/receipt.json"))
        assert list((tmp_path / "data/.staging").iterdir()) == []
        assert sorted(tmp_path.iterdir()) == sorted({*before, tmp_path / "data"})
        assert canary.read_text() == "untouched"
        return errors[0]

    return run


def test_the_archive_itself_is_accepted(untar, tmp_path):
    path = train_tar(tmp_path / ARCHIVE, CLASSES)
    assert path.read_bytes() == with_second(INNER)
    assert untar(path) == (0, [])
    assert len(list((tmp_path / "data").rglob("images.parquet"))) == 1


@pytest.mark.parametrize("cut", ["in a class tar", "in a header", "at a class tar's end", "at end"])
def test_9_a_truncated_tar_is_refused(refused, cut):
    data = with_second(INNER)
    keep = {
        "in a class tar": SECOND_AT + 700,
        "in a header": SECOND_AT - 300,
        "at a class tar's end": SECOND_AT - 512,
        "at end": len(data) - 1024,
    }[cut]
    line = refused(data[:keep])
    assert f"error: BadArchive: {ARCHIVE} is truncated" in line
    assert f"its end at byte {keep}. Download it again" in line


@pytest.mark.parametrize(
    ("keep", "where"),
    [(513, "inside n00000002_0.JPEG"), (1000, "inside n00000002_0.JPEG"),
     (1024 + 100, f"inside the header at byte {SECOND_AT + 1024}"),
     (1024, f"at byte {SECOND_AT + 1024}, where its end blocks should follow"),
     (len(INNER) - 1024, "where its end blocks should follow"), (0, f"at byte {SECOND_AT}")],
)  # fmt: skip
def test_10_a_truncated_class_tar_is_named_with_its_archive_and_offset(refused, keep, where):
    line = refused(with_second(INNER[:keep]))
    assert f"error: BadArchive: {ARCHIVE}: n00000002.tar is truncated" in line
    assert where in line
    assert f"found its end at byte {SECOND_AT + keep}" in line


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry(b"../../canary", b"evil"), "a member's name is unsafe: found '../../canary'"),
        (Entry(b"/tmp/canary", b"evil"), "a member's name is unsafe: found '/tmp/canary'"),
        (Entry(b"n\\..\\canary", b"evil"), "a member's name is unsafe"),
        (Entry(b"link", b"", b"2", link=b"../canary"), "found a symbolic link"),
        (Entry(b"link", b"", b"1", link=b"canary"), "found a hard link"),
        (Entry(b"device", b"", b"3"), "found a character device"),
        (Entry(b"device", b"", b"4"), "found a block device"),
        (Entry(b"fifo", b"", b"6"), "found a fifo"),
    ],
)
@pytest.mark.parametrize("inside", [False, True], ids=["outer", "class tar"])
def test_11_unsafe_members_are_refused(refused, entry, message, inside):
    line = refused(with_more(entry) if inside else raw_tar([FIRST, entry]))
    assert f"error: UnsafeMember: {ARCHIVE}:{' n00000002.tar:' if inside else ''}" in line
    assert message in line


def test_12_a_link_and_a_write_through_it_are_refused(refused, tmp_path):
    link = Entry(b"n00000002", b"", b"2", link=str(tmp_path).encode())
    line = refused(raw_tar([link, Entry(b"n00000002/canary", b"evil")]))
    assert "n00000002 is not a regular file: found a symbolic link, header at byte 0" in line


@pytest.mark.parametrize("second", ["n00000002_1.JPEG", "N00000002_1.jpeg"])
def test_13_duplicates_and_case_collisions_in_a_class_tar_name_both_offsets(refused, second):
    line = refused(with_more(Entry(second.encode())))
    first_at, second_at = SECOND_AT + 1024, SECOND_AT + len(INNER) - 1024
    assert f"UnexpectedMember: {ARCHIVE}: n00000002.tar/{second} appears" in line
    assert f"twice: found headers at bytes {first_at} and {second_at}" in line


@pytest.mark.parametrize("second", [b"n00000001.tar", b"N00000001.TAR"])
def test_13_duplicate_class_tars_name_both_offsets(refused, second):
    line = refused(raw_tar([FIRST, Entry(second, INNER)]))
    assert f"{second.decode()} appears twice: found headers at bytes 0 and" in line


def test_13_an_image_that_is_both_in_a_class_tar_and_loose_is_refused(refused):
    line = refused(raw_tar([FIRST, Entry(b"n00000001/n00000001_1.JPEG")]))
    assert f"UnexpectedMember: {ARCHIVE} mixes two layouts of ILSVRC2012" in line


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([Entry(b"\xff\xfe_1.JPEG")], "name is not text: found b'\\xff\\xfe_1.JPEG'"),
        ([Entry(b"a\n2026-11-21 all is well")], r"unsafe: found 'a\n2026-11-21 all is well'"),
        ([Entry(b"a\r\x1b[2K")], r"unsafe: found 'a\r\x1b[2K'"),
        ([long_name(b"n" * 5000), Entry(b"n")], "extended header at byte"),
        ([pax({"path": "n" * 5000}), Entry(b"n")], "a member's name is too long"),
        ([long_name(b"a\nb"), Entry(b"n")], r"unsafe: found 'a\nb'"),
    ],
    ids=range(6),
)
def test_14_names_that_are_no_text_forge_lines_or_are_too_long(refused, entries, message):
    line = refused(with_more(*entries))
    assert f"error: UnsafeMember: {ARCHIVE}: n00000002.tar: " in line
    assert message in line


@pytest.mark.parametrize(
    "name", ["readme.txt", "n00000002_1.PNG", "n00000001_9.JPEG", "n00000002_\u0661.JPEG",
             "n00000002_123456789.JPEG", "sub/n00000002_9.JPEG", "n00000002_9.JPEG.tar"],
)  # fmt: skip
def test_14_only_names_of_the_layout_are_accepted(refused, name):
    line = refused(with_more(Entry(name.encode())))
    assert f"error: UnexpectedMember: {ARCHIVE}: member n00000002.tar/" in line
    assert (
        f"does not belong to ILSVRC2012: found its header at byte {SECOND_AT + len(INNER) - 1024}"
        in line
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([Entry(b"n00000002_9.JPEG", b"", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7)],
         "is too large: found 9,223,372,036,854,775,807 bytes"),
        ([Entry(b"n00000002_9.JPEG", b"", size=b"77777777777\0")],
         "n00000002_9.JPEG is too large: expected at most 67,108,864 bytes, found 8,589,934,591"),
        ([Entry(b"n00000002_9.JPEG", b"", b"S")], "found a sparse file"),
        ([pax({"GNU.sparse.realsize": "9" * 15}), Entry(b"n00000002_9.JPEG", b"")],
         "describes a sparse file"),
        ([pax({"size": "9223372036854775807"}),
          Entry(b"n00000002_9.JPEG", b"", size=b"00000000000\0")],
         "n00000002_9.JPEG is too large"),
    ],
    ids=["8 EiB", "8 GiB", "sparse", "PAX sparse", "PAX 8 EiB"],
)  # fmt: skip
def test_15_bombs_hit_the_cap_before_anything_is_written(refused, entries, message):
    line = refused(with_more(*entries))
    assert f"error: UnsafeMember: {ARCHIVE}" in line
    assert message in line


def test_15_a_class_tar_of_8_eib_is_refused(refused):
    size = b"\x80" + b"\0" * 3 + b"\x0f" + b"\xff" * 7
    line = refused(raw_tar([FIRST, Entry(b"n00000002.tar", b"", size=size)]))
    assert "member n00000002.tar is too large: expected at most 17,179,869,184 bytes" in line


@pytest.mark.parametrize(
    "members", [(), (Entry(b"./", b"", b"5"),), (Entry(b"old/", b"", b"\0", magic=bytes(8)),)],
    ids=["end blocks", "a folder", "an old folder"],
)  # fmt: skip
def test_a_class_tar_without_a_file_is_named_since_its_class_would_vanish(refused, members):
    inner = raw_tar(members)
    line = refused(with_second(inner))
    assert f"error: BadArchive: {ARCHIVE}: n00000002.tar holds no file" in line
    assert f"found a tar of {len(inner):,} bytes from byte {SECOND_AT} on" in line
    assert "Get the archive anew from its publisher" in line


def test_trouble_before_a_class_tar_without_a_file_is_told_first(refused):
    bad = class_tar(WNIDS[0], {"../canary": b"evil"})
    line = refused(raw_tar([bad, Entry(f"{WNIDS[1]}.tar".encode(), raw_tar([]))]))
    assert "a member's name is unsafe" in line


def test_a_compressed_tar_is_told_as_such(refused):
    line = refused(bz2.compress(with_second(INNER)))
    assert f"error: BadArchive: {ARCHIVE} is compressed (bzip2) and cannot be read in place" in line


def test_the_standard_librarys_own_hostile_tar_is_refused(refused, tmp_path):
    path = tmp_path / "made.tar"
    with tarfile.open(path, "w") as archive:
        archive.add("/etc/hostname", "n00000001/../../etc/hostname")
    data = path.read_bytes()
    path.unlink()
    assert "a member's name is unsafe" in refused(data)

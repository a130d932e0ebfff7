"""A folder in an archive's place."""

import os
from dataclasses import replace

import pytest
from tests.support.archives import contents, listed, ref_of

from imagenet_etl.archives.folder import folder_state, read_folder_member
from imagenet_etl.archives.location import open_archive
from imagenet_etl.errors import ArchiveChanged, UnexpectedMember, UnsafeMember
from imagenet_etl.storage import LocalStorage

FILES = {"a-b/x": b"-", "a/2": b"two" * 40, "a/1": b"", "a.b": b"dot", "b/c/d": bytes(range(256))}


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_files_are_listed_by_their_whole_names_and_read(tree):
    assert list(contents(tree).items()) == sorted(FILES.items())


def test_empty_folders_are_passed_over(tree):
    (tree / "empty/within").mkdir(parents=True)
    assert [member.name for member in listed(tree)] == sorted(FILES)


def test_members_tell_size_and_mtime(tree):
    os.utime(tree / "a/2", ns=(1, 1_340_000_000_123_456_789))
    (member,) = (m for m in listed(tree) if m.name == "a/2")
    assert (member.size, member.stored_size, member.header_offset, member.offset) == (
        120,
        120,
        0,
        0,
    )
    assert member.check == 1_340_000_000_123_456_789


@pytest.mark.parametrize("target", ["/etc/passwd", "a.b", "nowhere", "b"])
def test_links_are_refused_wherever_they_lead(tree, target):
    (tree / "b/link").symlink_to(target)
    with pytest.raises(
        UnsafeMember, match="tree: b/link is not a regular file: found a symbolic"
    ) as caught:
        listed(tree)
    assert ". Give the folder it leads to as a source, or put a copy" in str(caught.value)


def test_fifos_are_refused_without_being_opened(tree):
    os.mkfifo(tree / "fifo")
    with pytest.raises(UnsafeMember, match=r"fifo is not a regular file: found mode 1.*Remove it"):
        listed(tree)


@pytest.mark.parametrize("name", [b"a\nb", b"a\\b", b"\xff\xfe", b"C:evil", b"a\x1b[2J"])
def test_unsafe_names_are_refused(tree, name):
    (tree / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(UnsafeMember, match="a member's name is") as caught:
        listed(tree)
    assert str(caught.value).isprintable()


def test_names_that_differ_in_case_alone_are_refused(tree):
    (tree / "A.B").write_bytes(b"")
    if len(list(tree.iterdir())) < 5:
        pytest.skip("this file system ignores case")
    with pytest.raises(UnexpectedMember, match=r"a\.b appears twice: found A\.B beside it"):
        listed(tree)


def test_names_that_differ_in_case_alone_in_different_folders_are_accepted(tree):
    (tree / "b/X").write_bytes(b"")
    (tree / "b/c/x").write_bytes(b"")
    assert {"b/X", "b/c/x", "a-b/x"} <= {member.name for member in listed(tree)}


def changed_size(path):
    path.write_bytes(path.read_bytes() + b"x")


def changed_time(path):
    os.utime(path, ns=(1, 1))


def replaced_by_a_link(path):
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


def removed(path):
    path.unlink()


def its_folder_removed(path):
    path.unlink()
    path.parent.rmdir()
    path.parent.write_bytes(b"")


@pytest.mark.parametrize(
    "change", [changed_size, changed_time, replaced_by_a_link, removed, its_folder_removed]
)
def test_a_file_that_changed_since_it_was_indexed_is_noticed(tree, change):
    member = next(m for m in listed(tree) if m.name == "b/c/d")
    change(tree / "b/c/d")
    with (
        open_archive(LocalStorage(tree), ref_of(tree)) as archive,
        pytest.raises(ArchiveChanged, match=r"tree/b/c/d changed since it was indexed"),
    ):
        archive.read(member)


def test_a_file_that_is_cut_while_it_is_read_is_noticed(tree, monkeypatch):
    member = next(m for m in listed(tree) if m.name == "a/2")
    real = os.fstat

    def cut_afterwards(fd):
        state = real(fd)
        os.truncate(tree / "a/2", 7)
        return state

    monkeypatch.setattr("imagenet_etl.archives.folder.os.fstat", cut_afterwards)
    with pytest.raises(ArchiveChanged, match="a/2 changed since it was indexed"):
        read_folder_member(tree, member)


def test_a_folder_that_is_gone_is_noticed(tree, tmp_path):
    ref = ref_of(tree)
    with open_archive(LocalStorage(tmp_path), ref) as archive:
        tree.rename(tmp_path / "aside")
        with pytest.raises(ArchiveChanged, match="tree is gone"):
            archive.check()
    with (
        pytest.raises(ArchiveChanged, match="tree is gone"),
        open_archive(LocalStorage(tmp_path), ref),
    ):
        pass


def test_read_ahead_is_harmless_for_files_that_are_there_and_gone(tree):
    member = listed(tree)[0]
    with open_archive(LocalStorage(tree), ref_of(tree)) as archive:
        archive.will_need([member])
        archive.will_need([replace(member, name="gone/file")])
        assert archive.read(member) == FILES[member.name]


def test_the_listing_digest_is_that_of_sorted_lines_of_path_and_size(tree):
    import hashlib

    lines = "".join(sorted(f"{name}\t{len(data)}\n" for name, data in FILES.items()))
    state = folder_state(tree, "tree")
    assert state.listing_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert state.size == sum(map(len, FILES.values()))


def test_a_touched_file_changes_the_tag_alone(tree):
    before = folder_state(tree, "tree")
    os.utime(tree / "a.b", ns=(1, 1))
    after = folder_state(tree, "tree")
    assert after.tag != before.tag
    assert (after.size, after.listing_sha256) == (before.size, before.listing_sha256)

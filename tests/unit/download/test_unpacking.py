"""A gzipped tar that no memory holds is unpacked once, to a tar that is read in its place."""

import gzip
import os
from pathlib import Path
from typing import NoReturn

import pytest
from tests.support.tars import END
from tests.support.winter21 import (
    FACTS,
    SIZES,
    count_as_large,
    packed_sample,
    sha256_of,
    tars_of,
    unfinished_in,
    winter21_build,
)

from imagenet_etl import leases
from imagenet_etl.build import Build
from imagenet_etl.datasets import facts_of
from imagenet_etl.download import alone, unpacking
from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.notes import Note
from imagenet_etl.errors import (
    ArchiveChanged,
    BadArchive,
    ChecksumMismatch,
    ConfigError,
    LeaseLost,
    NotEnoughSpace,
    SourceBusy,
    UnsafeMember,
)
from imagenet_etl.leases import Owner
from imagenet_etl.mapped import run_download_of
from imagenet_etl.pipeline import run_stage
from imagenet_etl.storage import LocalStorage
from imagenet_etl.streams import HashedFile


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    count_as_large(monkeypatch)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return packed_sample(tmp_path / "mine")


@pytest.fixture
def build(tmp_path: Path, archive: Path) -> Build:
    return winter21_build(tmp_path / "data", archive)


def verified(build: Build) -> Note:
    return verified_archive(build, FACTS)[0]


def forbid_unpacking(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(*_: object) -> NoReturn:
        raise AssertionError("it was unpacked again")

    monkeypatch.setattr(unpacking, "_unpack", unpack)


def test_the_tar_is_noted_with_its_own_digest_and_that_of_the_published_file(
    tmp_path: Path, build: Build, archive: Path
) -> None:
    packed = archive.read_bytes()
    note = verified(build)
    (tar,) = tars_of(tmp_path / "data")
    assert tar.read_bytes() == gzip.decompress(packed)
    assert (note.archive.name, note.archive.kind) == ("winter21_whole.tar.gz", "tar")
    assert note.archive.size == tar.stat().st_size
    assert note.archive.is_unchanged(build.storage)
    assert note.sha256 == note.digests["sha256"] == sha256_of(tar.read_bytes())
    assert note.digests["packed_sha256"] == sha256_of(packed)
    assert note.source == str(archive)
    assert unfinished_in(tmp_path / "data") == []


def test_what_is_given_by_path_is_never_touched(build: Build, archive: Path) -> None:
    before = archive.stat()
    verified(build)
    after = archive.stat()
    assert list(archive.parent.iterdir()) == [archive]
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_published_digest_is_that_of_the_packed_file(tmp_path: Path, archive: Path) -> None:
    digest = sha256_of(archive.read_bytes())
    note = verified(winter21_build(tmp_path / "data", f"{archive}#sha256={digest}"))
    assert note.digests["packed_sha256"] == digest
    with pytest.raises(ChecksumMismatch):
        verified(winter21_build(tmp_path / "other", f"{archive}#sha256={'0' * 64}"))
    assert tars_of(tmp_path / "other") == []


def test_nothing_is_unpacked_twice(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    note = verified(build)
    forbid_unpacking(monkeypatch)
    assert verified(build) == note
    assert noted(build, FACTS) == note


def test_the_stages_read_the_tar_and_have_nothing_to_do_again(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    with build.locked() as build:
        download = run_stage(build, "download").receipt
        images = run_stage(build, "untar").receipt.counts["train_images"]
        assert images == sum(SIZES.values())
        forbid_unpacking(monkeypatch)
        assert run_stage(build, "download").reused
        assert run_stage(build, "untar").reused
    (tar,) = tars_of(tmp_path / "data")
    assert download.outputs[0].sha256 == sha256_of(tar.read_bytes())
    assert "packed_sha256" in download.facts["digests"][FACTS.name]


def test_the_task_of_the_archive_completes_the_stage(build: Build) -> None:
    with build.locked() as build:
        note, _ = run_download_of(build, FACTS.name)
        assert note == noted(build, FACTS)
        assert run_stage(build, "download").reused


def test_a_tar_that_was_deleted_is_unpacked_again(tmp_path: Path, build: Build) -> None:
    first = verified(build)
    (tar,) = tars_of(tmp_path / "data")
    tar.unlink()
    assert noted(build, FACTS) is None
    assert verified(build).sha256 == first.sha256
    assert tars_of(tmp_path / "data") == [tar]


def test_a_tar_with_a_new_time_is_verified_and_not_unpacked_again(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified(build)
    (tar,) = tars_of(tmp_path / "data")
    os.utime(tar, ns=(1, 1))
    forbid_unpacking(monkeypatch)
    assert verified(build).archive.tag == "1"
    assert noted(build, FACTS) is not None


def test_another_file_in_its_place_is_noticed_and_unpacked(
    tmp_path: Path, build: Build, archive: Path
) -> None:
    with build.locked() as build:
        run_stage(build, "download")
        assert not upstream_changed(build, FACTS)
        archive.unlink()
        packed_sample(archive.parent, {"n00000001": 3})
        os.utime(archive, ns=(1, 1))
        assert upstream_changed(build, FACTS)
        assert not run_stage(build, "download").reused
    (tar,) = tars_of(tmp_path / "data")
    assert tar.read_bytes() == gzip.decompress(archive.read_bytes())


def test_the_packed_file_may_go_once_it_was_unpacked(build: Build, archive: Path) -> None:
    with build.locked() as build:
        run_stage(build, "download")
        archive.unlink()
        assert run_stage(build, "download").reused
        assert run_stage(build, "untar").receipt.counts["train_images"] == 11


def test_members_that_follow_each_other_are_one_tar(tmp_path: Path, archive: Path) -> None:
    tar = gzip.decompress(archive.read_bytes())
    cut = len(tar) // 3
    archive.write_bytes(gzip.compress(tar[:cut]) + gzip.compress(tar[cut:]) + bytes(512))
    assert verified(winter21_build(tmp_path / "data", archive)).sha256 == sha256_of(tar)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:-8],
        lambda data: data[: len(data) // 2],
        lambda data: data[:150],
        lambda data: data[: len(data) // 2] + b"\0" + data[len(data) // 2 + 1 :],
        lambda data: data[:-8] + bytes(8),
        lambda data: data + b"garbage",
        lambda data: data + data[:200],
    ],
    ids=["last byte", "trailer", "half", "start", "flipped", "checks", "garbage", "second"],
)
def test_a_damaged_one_leaves_nothing(tmp_path: Path, archive: Path, damage: object) -> None:
    assert callable(damage)
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(BadArchive, match=r"winter21_whole\.tar\.gz cannot be unpacked"):
        verified(winter21_build(tmp_path / "data", archive))
    assert tars_of(tmp_path / "data") == []
    assert unfinished_in(tmp_path / "data") == []


@pytest.mark.parametrize("content", [b"no tar at all" * 99, b"PK\3\4" * 99, gzip.compress(END)])
def test_what_holds_no_tar_leaves_nothing(tmp_path: Path, archive: Path, content: bytes) -> None:
    archive.write_bytes(gzip.compress(content + os.urandom(200)))
    with pytest.raises(BadArchive):
        verified(winter21_build(tmp_path / "data", archive))
    assert unfinished_in(tmp_path / "data") == tars_of(tmp_path / "data") == []


def test_what_unpacks_to_too_much_is_stopped(tmp_path: Path, archive: Path) -> None:
    archive.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(UnsafeMember, match="at most 100 times its"):
        verified(winter21_build(tmp_path / "data", archive))
    assert unfinished_in(tmp_path / "data") == tars_of(tmp_path / "data") == []


def test_one_that_changes_meanwhile_is_refused(
    tmp_path: Path, build: Build, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = HashedFile.write

    def meddled(self: HashedFile, *pieces: bytes) -> None:
        os.utime(archive, ns=(1, 1))
        write(self, *pieces)

    monkeypatch.setattr(HashedFile, "write", meddled)
    with pytest.raises(ArchiveChanged, match="changed while it was unpacked"):
        verified(build)
    assert unfinished_in(tmp_path / "data") == tars_of(tmp_path / "data") == []


def test_a_disk_that_cannot_take_it_is_told_before_anything_is_written(
    tmp_path: Path, build: Build, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def full(folder: Path, needed_bytes: int) -> NoReturn:
        asked.append((folder.is_relative_to(tmp_path / "data/archives"), needed_bytes))
        raise NotEnoughSpace(f"{folder} is too full")

    monkeypatch.setattr(unpacking, "check_space", full)
    forbid_unpacking(monkeypatch)
    with pytest.raises(NotEnoughSpace):
        verified(build)
    assert asked == [(True, archive.stat().st_size)]
    assert tars_of(tmp_path / "data") == []


@pytest.mark.parametrize("moment", ["before its name", "after its name"])
def test_a_crash_around_publishing_leaves_nothing_or_a_vouched_tar(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    publish = LocalStorage.publish

    def killed(self: LocalStorage, key: str, path: Path) -> NoReturn:
        if moment == "after its name":
            publish(self, key, path)
            os.link(self.local_path(key), path)  # the crash came before the partial name went
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalStorage, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        verified(build)
    assert len(tars_of(tmp_path / "data")) == (moment == "after its name")
    monkeypatch.undo()
    count_as_large(monkeypatch)
    forbid_unpacking(monkeypatch)
    note = verified(build)
    (tar,) = tars_of(tmp_path / "data")
    assert sha256_of(tar.read_bytes()) == note.sha256
    assert unfinished_in(tmp_path / "data") == []
    assert verified(build) == note


def test_what_was_left_half_made_is_never_used(tmp_path: Path, build: Build) -> None:
    note = verified(build)
    (tar,) = tars_of(tmp_path / "data")
    left = tar.with_name(f"{tar.name}.1.part")
    left.write_bytes(tar.read_bytes()[:1000])
    tar.unlink()
    assert verified(build).sha256 == note.sha256
    assert not left.exists()


def test_a_file_of_unknown_origin_is_left_alone(tmp_path: Path, build: Build) -> None:
    verified(build)
    (tar,) = tars_of(tmp_path / "data")
    tar.with_name(f"{tar.name}.receipt.json").unlink()
    with pytest.raises(ConfigError, match="nothing proves that it was unpacked from") as caught:
        verified(build)
    assert str(tar) in caught.value.remedy
    assert tar.exists()


def test_two_runs_do_not_unpack_at_once(
    tmp_path: Path, build: Build, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "_WAIT_FOR_OTHER_S", 0.0)
    other = Owner("run-2")
    lease = leases.acquire(build.storage, f"{build.work}/locks/download-{FACTS.name}", other)
    forbid_unpacking(monkeypatch)
    with pytest.raises(SourceBusy, match="another run is still at work on"):
        verified(build)
    lease.release()
    monkeypatch.undo()
    count_as_large(monkeypatch)
    assert verified(build).archive.kind == "tar"


def test_a_run_that_lost_its_lease_publishes_nothing(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack = unpacking._unpack

    def taken_over(*args: object) -> Note:
        note = unpack(*args)
        key = f"{build.work}/locks/download-{FACTS.name}"
        leases.acquire(build.storage, key, Owner("run-1", attempt=2))
        return note

    monkeypatch.setattr(unpacking, "_unpack", taken_over)
    with pytest.raises(LeaseLost):
        verified(build)
    assert tars_of(tmp_path / "data") == []
    assert noted(build, FACTS) is None


def test_a_small_one_stays_packed(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    build = winter21_build(tmp_path / "data", archive)
    assert verified(build).archive.kind == "tar.gz"
    assert not (tmp_path / "data/archives").exists()


def test_it_is_still_refused_where_a_plain_tar_is_published(tmp_path: Path, archive: Path) -> None:
    facts = facts_of("imagenet_fall11").archives[0]
    build = winter21_build(tmp_path / "data", archive)
    with pytest.raises(BadArchive, match=r"fall11_whole\.tar is compressed \(gzip\)"):
        verified_archive(build, facts, source=str(archive))
    assert not (tmp_path / "data/archives").exists()


def test_a_plain_tar_is_used_where_it_lies(tmp_path: Path, archive: Path) -> None:
    tar = archive.with_name("winter21_whole.tar")
    tar.write_bytes(gzip.decompress(archive.read_bytes()))
    note = verified(winter21_build(tmp_path / "data", tar))
    assert (note.archive.kind, note.archive.location) == ("tar", str(tar))
    assert tars_of(tmp_path / "data") == []

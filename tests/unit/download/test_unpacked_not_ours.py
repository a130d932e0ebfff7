"""A file under the name of an unpacked tar that may be the user's own is never deleted."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
from tests.support.winter21 import (
    FACTS,
    count_as_large,
    packed_sample,
    tars_of,
    unfinished_in,
    winter21_build,
)

from imagenet_etl.build import Build
from imagenet_etl.download.archive import noted, verified_archive
from imagenet_etl.download.notes import Note
from imagenet_etl.download.release import release_archive
from imagenet_etl.errors import ConfigError
from imagenet_etl.storage import LocalStorage

OTHER_SIZES = {"n00000001": 3}


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    count_as_large(monkeypatch)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return packed_sample(tmp_path / "mine")


@pytest.fixture
def build(tmp_path: Path, archive: Path) -> Build:
    return winter21_build(tmp_path / "data", archive)


@pytest.fixture
def tar(tmp_path: Path, build: Build) -> Path:
    """The tar, just unpacked."""
    verified(build)
    (path,) = tars_of(tmp_path / "data")
    return path


def verified(build: Build) -> Note:
    return verified_archive(build, FACTS)[0]


def put_there(tar: Path, content: bytes) -> None:
    """Do as a user who has a tar of his own."""
    tar.write_bytes(content)
    os.utime(tar, ns=(7, 7))


def repack(archive: Path) -> None:
    """Let the archive be another one."""
    archive.unlink()
    packed_sample(archive.parent, OTHER_SIZES)
    os.utime(archive, ns=(1, 1))


def assert_refused(build: Build, tar: Path) -> None:
    content = tar.read_bytes()
    for _ in range(2):
        with pytest.raises(ConfigError, match="is there already, and nothing proves") as caught:
            verified(build)
        assert str(tar) in str(caught.value)
        assert f"--source {FACTS.name}={tar}, or remove it" in caught.value.remedy
        assert release_archive(build, FACTS) == 0
        assert tar.read_bytes() == content


@pytest.mark.parametrize("change", ["byte", "length"])
@pytest.mark.parametrize("released", [False, True])
def test_other_content_is_refused_until_it_is_removed(
    build: Build, tar: Path, released: bool, change: str
) -> None:
    whole = tar.read_bytes()
    if released:
        release_archive(build, FACTS)
    put_there(tar, whole[:-1] + b"!" if change == "byte" else whole + bytes(512))
    assert_refused(build, tar)
    tar.unlink()
    verified(build)
    assert tar.read_bytes() == whole


def test_other_content_can_be_used_as_the_remedy_says(
    tmp_path: Path, build: Build, tar: Path
) -> None:
    other = gzip.decompress(packed_sample(tmp_path / "other", OTHER_SIZES).read_bytes())
    release_archive(build, FACTS)
    put_there(tar, other)
    note = verified(winter21_build(tmp_path / "data", tar))
    assert (note.archive.location, note.archive.kind) == (str(tar), "tar")


@pytest.mark.parametrize("time_is", ["new", "kept"])
def test_the_same_content_is_used_and_not_let_go(
    tmp_path: Path, build: Build, tar: Path, time_is: str
) -> None:
    copy = Path(shutil.copy2(tar, tmp_path / "copy"))
    release_archive(build, FACTS)
    assert not tar.exists()
    shutil.copy2(copy, tar)
    if time_is == "new":
        os.utime(tar, ns=(7, 7))
    assert release_archive(build, FACTS) == 0
    note = verified(build)
    assert (note.released, note.is_ours) == (False, False)
    assert noted(build, FACTS) == note
    assert release_archive(build, FACTS) == 0
    assert tar.read_bytes() == copy.read_bytes()


def test_one_that_was_adopted_stays_when_the_archive_is_another(
    build: Build, archive: Path, tar: Path
) -> None:
    content = tar.read_bytes()
    release_archive(build, FACTS)
    put_there(tar, content)
    verified(build)
    repack(archive)
    assert_refused(build, tar)


def test_one_that_was_put_where_another_archives_tar_was_let_go_stays(
    build: Build, archive: Path, tar: Path
) -> None:
    content = tar.read_bytes()
    release_archive(build, FACTS)
    put_there(tar, content)
    repack(archive)
    assert_refused(build, tar)


@pytest.mark.parametrize("touched", [False, True])
def test_ours_makes_room_for_that_of_another_archive(
    build: Build, archive: Path, tar: Path, touched: bool
) -> None:
    if touched:
        os.utime(tar, ns=(7, 7))
    repack(archive)
    assert verified(build).is_ours
    assert tar.read_bytes() == gzip.decompress(archive.read_bytes())


def test_ours_with_a_new_time_is_still_ours(build: Build, tar: Path) -> None:
    os.utime(tar, ns=(7, 7))
    assert verified(build).is_ours
    assert release_archive(build, FACTS) > 0
    assert not tar.exists()


def test_one_that_is_put_there_after_a_crash_before_the_name_stays(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            verified(build)
    (part,) = unfinished_in(tmp_path / "data")
    tar = part.with_name("winter21_whole.tar")
    put_there(tar, b"mine")
    assert_refused(build, tar)

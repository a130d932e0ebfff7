"""What the command prints before anything is written."""

import os
from pathlib import Path

import pytest
from tests.unit.preflight.rooms import MakeBuild, Room

from imagenet_etl.preflight.report import preflight_lines

TAR = "fall11_whole.tar"


def test_budget_and_hours_are_told(make_build: MakeBuild, room: Room, tmp_path: Path) -> None:
    tar = tmp_path / TAR
    tar.write_bytes(os.urandom(1 << 20) * 40)
    lines = preflight_lines(make_build("imagenet_fall11", expect="any", sources={TAR: str(tar)}))
    assert lines[0].startswith("disk budget")
    assert any(line.startswith("a volume for archives, work and output") for line in lines)
    assert "a random read of 110 KiB" in lines[-2]
    assert lines[-1].startswith("reading alone: global ")


def test_what_is_not_here_is_not_measured(make_build: MakeBuild, room: Room) -> None:
    room.free = 0  # it tells, and refuses nothing
    lines = preflight_lines(make_build("imagenet_fall11"))
    assert lines[-1] == "reading speed: no archive is on this machine yet"
    assert not (Path(make_build("imagenet_fall11").settings.data_dir)).exists()


def test_a_small_archive_is_too_small_to_tell(
    make_build: MakeBuild, room: Room, tmp_path: Path
) -> None:
    (tmp_path / TAR).write_bytes(bytes(10_240))
    sources = {TAR: str(tmp_path / TAR)}
    lines = preflight_lines(make_build("imagenet_fall11", expect="any", sources=sources))
    assert "too little" in lines[-1]


def test_a_folder_of_class_tars_is_measured_by_its_largest(
    make_build: MakeBuild, room: Room, tmp_path: Path
) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    for number in range(3):
        (folder / f"n0000000{number}.tar").write_bytes(os.urandom(1 << 20) * 15)
    sources = {TAR: str(folder)}
    lines = preflight_lines(make_build("imagenet_fall11", expect="any", sources=sources))
    assert lines[-1].startswith("reading alone: ")


@pytest.mark.parametrize("keep", ["always", "never"])
@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("https://mirror.example.org/fall11_whole.tar", "about 2,620 GB"),
        ("data/own/fall11_whole.tar", "about 80 GB"),
        ("elsewhere/fall11_whole.tar", "about 40 GB"),
    ],
)
def test_first_snapshot_counts_archives_that_lie_on_its_volume(
    make_build: MakeBuild, room: Room, tmp_path: Path, place: str, told: str, keep: str
) -> None:
    """Whether they are kept or not: they are let go when the snapshot is there."""
    if "://" not in place:
        tar = tmp_path / place
        tar.parent.mkdir(parents=True)
        with tar.open("wb") as file:
            file.truncate(40 * 10**9)
        place = str(tar)
    lines = preflight_lines(
        make_build(
            "imagenet_fall11",
            sources={TAR: place},
            ebs_volume_id="vol-01234567",
            keep_archives=keep,
            expect="published" if "://" in place else "any",
        )
    )
    (line,) = [line for line in lines if line.startswith("leaves EBS snapshot")]
    assert told in line

"""A version that is there and damaged is not mended in place: the file is named, and what to do."""

import shutil
from pathlib import Path

import pytest
from tests.support.moto_server import MotoServer
from tests.support.restores import back_up_folder, fresh_machine, restored_version
from tests.unit.aws.conftest import version_folder

from imagenet_etl.build import Build
from imagenet_etl.errors import DatasetDamaged

RECORDS = "recordio/train/train_00000.rec"


@pytest.fixture
def build(tmp_path: Path, packed: Build, moto: MotoServer) -> Build:
    """A machine on which the version is."""
    moto.bucket("backups")
    back_up_folder(moto.client("s3"), version_folder(packed))
    build = fresh_machine(tmp_path, moto)
    restored_version(build)
    return build


def test_a_file_that_is_gone_is_told(build: Build) -> None:
    gone = next((version_folder(build) / "imagefolder" / "train").rglob("*.JPEG"))
    gone.unlink()
    with pytest.raises(DatasetDamaged, match=gone.name) as told:
        restored_version(build)
    assert f"Remove the folder {version_folder(build)}" in told.value.remedy
    shutil.rmtree(version_folder(build))
    assert not restored_version(build).was_there


def test_a_file_of_another_size_is_named(build: Build) -> None:
    (version_folder(build) / RECORDS).write_bytes(b"short")
    with pytest.raises(DatasetDamaged, match=RECORDS) as told:
        restored_version(build)
    assert told.value.found == "5 bytes"


def test_a_stray_loose_file_is_named(build: Build) -> None:
    (version_folder(build) / "imagefolder" / "train" / "stray.JPEG").write_bytes(b"x")
    with pytest.raises(DatasetDamaged, match=r"stray\.JPEG"):
        restored_version(build)

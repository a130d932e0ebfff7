"""Full ImageNet's records are the same, whatever kind of source its images come from."""

from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.support.full import full_build
from tests.support.winter21 import count_as_large

from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples import build_imagenet_full

SIZES = [30, 12, 7, 25, 40]
FORMATS = ("recordio", "webdataset", "imagefolder", "lmdb:squash:16x16")
OWN = {"manifest.json", "records.parquet"}  # they tell of the archive, too


def version_of(data_dir: Path, source: Path, dataset: str = "imagenet_fall11") -> dict[str, bytes]:
    """Prepare a source and return the files that came out, without what tells of the source."""
    build = full_build(
        data_dir,
        source,
        dataset,
        formats=FORMATS,
        min_images_per_class=10,
        val_images_per_class=3,
        shards=3,
    )
    for name in build.facts.stages:
        receipt = run_stage(build, name).receipt
        if name == "verify":
            version = Path(receipt.facts["path"])
    files = files_below(version)
    return {name: data for name, data in files.items() if name not in OWN}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "fall11_whole.tar"
    build_imagenet_full(path, None, SIZES)
    return version_of(folder / "data", path)


@pytest.mark.parametrize("layout", ["class-tars", "tree"])
def test_a_folder_gives_the_records_of_the_whole_tar(
    tmp_path: Path, whole: dict[str, bytes], layout: str
) -> None:
    build_imagenet_full(tmp_path / "folder", None, SIZES, layout=layout)
    assert version_of(tmp_path / "data", tmp_path / "folder") == whole


@pytest.mark.parametrize("in_memory", [True, False])
def test_winter21_gives_the_records_of_the_whole_tar(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        count_as_large(monkeypatch)
    path = tmp_path / "winter21_whole.tar.gz"
    build_imagenet_full(path, None, SIZES, layout="whole-gz")
    assert version_of(tmp_path / "data", path, "imagenet_winter21") == whole
    tars = list((tmp_path / "data/archives").rglob("winter21_whole.tar"))
    assert len(tars) == (0 if in_memory else 1)


def test_winter21_as_class_tars_gives_them_too(tmp_path: Path, whole: dict[str, bytes]) -> None:
    build_imagenet_full(tmp_path / "tars", None, SIZES, layout="class-tars")
    assert version_of(tmp_path / "data", tmp_path / "tars", "imagenet_winter21") == whole

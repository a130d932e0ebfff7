"""The DAG of full ImageNet, run whole by Airflow over a sample with classes of telling sizes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.dags.conftest import Site
from tests.support.airflow_runs import asset_events, files_below

from imagenet_etl.samples import build_imagenet_full
from imagenet_etl.samples.imagenet_full import FullTruth
from imagenet_etl.verify import verify_folder

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

LARGE, SMALL = (501, 502, 640), (500, 499, 75)
SIZES = [(*LARGE, *SMALL, 60, 60, 60, 60)[number % 10] for number in range(60)]
VAL = 50
STAGES = ["download", "untar", "filter_classes", "split_val", "plan_shards", "pack", "assemble",
          "verify", "report"]  # fmt: skip


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FullTruth]:
    path = tmp_path_factory.mktemp("fall11") / "fall11_whole.tar"
    return path, build_imagenet_full(path, None, SIZES, edge=16)


@pytest.fixture
def fall11(site: Site, sample: tuple[Path, FullTruth]) -> Site:
    conf = {
        "source": str(sample[0]),
        "expect": "any",
        "formats": ["recordio"],
        "s3_uri": "none",
        "ebs_volume_id": "none",
    }
    return replace(site, conf=conf, dag="imagenet_fall11")


def listed(version: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Return the label, wnid and file name of every record, by split."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for path in sorted((version / "recordio").rglob("*.lst")):
        for line in path.read_text().splitlines():
            _, label, name = line.split("\t")
            found.setdefault(path.parent.name, []).append((label, *name.split("/")))
    return found


def test_large_classes_stay_and_every_image_is_in_one_split(
    fall11: Site, sample: tuple[Path, FullTruth]
) -> None:
    truth, events = sample[1], len(asset_events())
    run = fall11.run()
    assert run.state == "success"
    assert run.done() == {*STAGES, "publish"}
    version = fall11.version()
    found = listed(version)
    kept = sorted(wnid for wnid, size in truth.sizes.items() if size > 500)
    assert len(kept) == SIZES.count(501) + SIZES.count(502) + SIZES.count(640)
    assert {(label, wnid) for split in found.values() for label, wnid, _ in split} == {
        (f"{label}.000000", wnid) for label, wnid in enumerate(kept)
    }
    for wnid in kept:
        val = [name for _, one, name in found["val"] if one == wnid]
        train = [name for _, one, name in found["train"] if one == wnid]
        assert len(val) == VAL
        assert sorted(val + train) == sorted(truth.file_names(wnid))
    drawn = (version / "val_images.tsv").read_text().splitlines()[1:]
    assert sorted(drawn) == sorted(f"{wnid}\t{name}" for _, wnid, name in found["val"])
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["dropped_classes"] == {w: n for w, n in truth.sizes.items() if w not in kept}
    assert manifest["counts"]["val_planned"] == manifest["counts"]["val_packed"] == VAL * len(kept)
    assert verify_folder(version)["records"] == sum(truth.sizes[wnid] for wnid in kept)
    (event,) = asset_events()[events:]
    assert event["asset"] == event["dataset"] == "imagenet_fall11"
    assert event["counts"]["classes"] == len(kept)


def test_two_runs_are_equal_and_undoing_the_filter_reuses_the_index(fall11: Site) -> None:
    fall11.run()
    first = files_below(fall11.version())
    shutil.rmtree(fall11.data_dir)
    fall11.run(workers=1)
    assert files_below(fall11.version()) == first
    run = fall11.run(min_images_per_class=1)
    assert {"download", "untar", "filter_classes"} & run.done() == set()
    assert {"split_val", "plan_shards", "pack", "verify"} <= run.done()
    manifest = json.loads((fall11.versions()[-1] / "manifest.json").read_text())
    assert manifest["counts"]["packed"] == sum(SIZES)
    assert manifest["dropped_classes"] == {}


def test_winter21_is_a_choice_of_the_form(
    fall11: Site, sample: tuple[Path, FullTruth], tmp_path: Path
) -> None:
    fall11.run(release="fall11", shards=2)
    expected = files_below(fall11.version() / "recordio")
    path = tmp_path / "winter21_whole.tar.gz"
    build_imagenet_full(path, None, SIZES, layout="whole-gz", edge=16)
    events = len(asset_events())
    run = fall11.run(release="winter21", source=str(path), shards=2)
    assert run.state == "success"
    (event,) = asset_events()[events:]
    assert event["asset"] == event["dataset"] == "imagenet_winter21"
    winter21 = replace(fall11, dag="imagenet_winter21")
    assert files_below(winter21.version() / "recordio") == expected

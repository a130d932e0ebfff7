"""The ILSVRC2012 DAG, run whole by Airflow over sample archives."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.dags.conftest import BUCKET, Site, served
from tests.support.airflow_runs import asset_events
from tests.support.fault_server import FaultServer
from tests.support.ilsvrc import (
    DEVKIT,
    SIZE,
    TRAIN,
    VAL,
    build_sample,
    check_val_labels,
    label_order,
)

from imagenet_etl.samples.ilsvrc2012 import IlsvrcTruth
from imagenet_etl.verify import verify_folder

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

FORMATS = ["recordio", "imagefolder", "lmdb"]
LABELLED = SIZE.labelled
AFTER_PACK = {"verify", "report", "back_up_to_s3", "snapshot_ebs", "publish"}


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IlsvrcTruth]:
    folder = tmp_path_factory.mktemp("ilsvrc") / "archives"
    return folder, build_sample(folder)


@pytest.fixture
def archives(sample: tuple[Path, IlsvrcTruth], tmp_path: Path) -> Path:
    """A copy of the archives, to be meddled with."""
    return Path(shutil.copytree(sample[0], tmp_path / "publisher"))


@pytest.fixture
def truth(sample: tuple[Path, IlsvrcTruth]) -> IlsvrcTruth:
    return sample[1]


@pytest.fixture
def ilsvrc(site: Site, archives: Path) -> Iterator[Site]:
    with served(archives) as url:
        sources = {
            f"source_{role}": f"{url}/{name}"
            for role, name in (("train", TRAIN), ("val", VAL), ("devkit", DEVKIT))
        }
        conf = {"expect": "any", "formats": FORMATS, "workers": 1} | sources
        yield replace(site, conf=conf, dag="ilsvrc2012")


@pytest.mark.parametrize("order", ["wnid", "devkit"])
def test_every_label_is_the_publishers_in_every_format_and_order(
    ilsvrc: Site, archives: Path, truth: IlsvrcTruth, order: str
) -> None:
    events = len(asset_events())
    run = ilsvrc.run(label_order=order)
    assert (run.state, run.states()) == ("success", {"success", "skipped"})
    unasked = {"filter_classes", "copy_snapshot", "share_snapshot", "prune"}
    assert {task for task, state in run.tasks.items() if state == "skipped"} == unasked
    version = ilsvrc.version()
    assert verify_folder(version)["records"] == 3 * LABELLED
    assert check_val_labels(version, archives, truth, order) == 3 * len(truth.val)
    assert _wnids(version) == label_order(truth, order)
    (event,) = asset_events()[events:]
    assert event["dataset"] == "ilsvrc2012"
    assert event["version"] == version.name
    assert event["counts"]["val_packed"] == len(truth.val)
    assert event["formats"]["lmdb"] == str(version / "lmdb")
    assert event["s3_uri"] == f"s3://{BUCKET}/datasets/ilsvrc2012/{version.name}"
    assert set(event) >= {"manifest_sha256", "path", "snapshot_id"}


def test_changed_quality_repeats_only_pack_and_what_follows(ilsvrc: Site) -> None:
    ilsvrc.run(resize="short_edge:64")
    before = _receipts(ilsvrc)
    run = ilsvrc.run(resize="short_edge:64", quality=50)
    assert run.done() == {"plan_shards", "pack", "assemble", *AFTER_PACK}
    new = {stage for stage, _, _ in _receipts(ilsvrc) - before}
    assert new == {"pack", "verify", "report", "back_up_to_s3", "snapshot_ebs"}


def test_changed_archive_gives_a_new_version(ilsvrc: Site, archives: Path, tmp_path: Path) -> None:
    ilsvrc.run(formats=["recordio"])
    first = ilsvrc.version()
    shutil.rmtree(archives)
    build_sample(archives, size=replace(SIZE, train=SIZE.train + 1))
    run = ilsvrc.run(formats=["recordio"])
    assert {"download", "untar", "pack", "publish"} <= run.done()
    assert [first] == [path for path in ilsvrc.versions() if path == first]
    second = ilsvrc.versions()[-1]
    assert second != first
    assert verify_folder(first)["records"] == LABELLED
    assert verify_folder(second)["records"] == LABELLED + SIZE.classes


def test_packing_is_mapped_over_groups_of_segments(
    ilsvrc: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagenet_etl.selection.GROUP_SEGMENTS", 2)
    run = ilsvrc.run(shards=4, formats=["recordio"], s3_uri="none", ebs_volume_id="none")
    groups = {task for task in run.tasks if task.startswith("pack[")}
    assert groups == {"pack[0]", "pack[1]", "pack[2]"}
    assert {run.tasks[task] for task in groups} == {"success"}
    assert verify_folder(ilsvrc.version())["records"] == LABELLED


def test_one_archive_alone_leaves_the_other_split_out_and_says_so(
    ilsvrc: Site, archives: Path
) -> None:
    sources = {
        "source_train": None,
        "source_val": str(archives / VAL),
        "source_devkit": str(archives / DEVKIT),
    }
    run = ilsvrc.run(formats=["recordio"], s3_uri="none", ebs_volume_id="none", **sources)
    assert run.state == "success"
    manifest = json.loads((ilsvrc.version() / "manifest.json").read_text())
    assert [path.name for path in (ilsvrc.version() / "recordio").iterdir()] == ["val"]
    note = "The publisher's split 'train' was not asked for and is left out."
    assert note in manifest["notes"]
    assert set(manifest["class_counts"]) == {"val"}


def test_classes_that_are_left_out_leave_no_gap_in_the_labels(
    ilsvrc: Site, truth: IlsvrcTruth
) -> None:
    first, gone, *others = label_order(truth, "wnid")
    run = ilsvrc.run(formats=["recordio"], s3_uri="none", ebs_volume_id="none", drop_classes=[gone])
    assert "filter_classes" in run.done()
    version = ilsvrc.version()
    assert _wnids(version) == [first, *others]
    manifest = json.loads((version / "manifest.json").read_text())
    assert gone not in manifest["class_counts"]["val"]


def test_lmdb_as_digits_makes_it_is_one_choice(ilsvrc: Site, truth: IlsvrcTruth) -> None:
    from imagenet_etl.datasets import ILSVRC2012
    from imagenet_operators.form import form

    (choice,) = [c for c in form(ILSVRC2012)["formats"].schema["examples"] if "224x224" in c]
    ilsvrc.run(formats=[choice], s3_uri="none", ebs_volume_id="none")
    lines = (ilsvrc.version() / "lmdb/val.txt").read_text().splitlines()
    wnids = _wnids(ilsvrc.version())
    found = {Path(path).name: wnids[int(label)] for path, label in map(str.split, lines)}
    assert found == truth.val
    manifest = json.loads((ilsvrc.version() / "manifest.json").read_text())
    assert "squash:224x224:q90" in manifest["settings"]["outputs"]["lmdb"]
    assert (ilsvrc.version() / "lmdb/mean.binaryproto").exists()


def _wnids(version: Path) -> list[str]:
    lines = (version / "classes.tsv").read_text().splitlines()[1:]
    assert [int(line.split("\t")[0]) for line in lines] == list(range(len(lines)))
    return [line.split("\t")[1] for line in lines]


def _receipts(site: Site) -> set[tuple[str, str, int]]:
    """Stage, digest and time of writing of every receipt."""
    paths = (site.data_dir / "work/ilsvrc2012").glob("*/*/receipt.json")
    return {(p.parts[-3], p.parts[-2], p.stat().st_mtime_ns) for p in paths}


def test_one_download_that_fails_leaves_the_others_done(ilsvrc: Site, archives: Path) -> None:
    train = archives / TRAIN
    content = train.read_bytes()
    train.write_bytes(b"<!DOCTYPE html><html>Please log in</html>")
    run = ilsvrc.run(s3_uri="none", ebs_volume_id="none")
    downloads = [run.tasks[f"download[{number}]"] for number in range(3)]
    assert downloads == ["failed", "success", "success"]
    assert run.tasks["untar"] == "upstream_failed"
    kept = {path: path.stat().st_mtime_ns for path in _fetched(ilsvrc)}
    assert {path.name for path in kept} == {VAL, DEVKIT}
    train.write_bytes(content)
    assert ilsvrc.run(s3_uri="none", ebs_volume_id="none").state == "success"
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in _fetched(ilsvrc)}.items()


def test_archives_are_let_go_only_when_that_is_asked_for(ilsvrc: Site) -> None:
    ilsvrc.run(keep_archives="after_backup", s3_uri="none")
    assert len(_fetched(ilsvrc)) == 3
    ilsvrc.run(keep_archives="after_backup")
    assert len(_fetched(ilsvrc)) == 3, "the backup is not of them"
    asked = {"keep_archives": "after_backup", "back_up": ["dataset", "archives"]}
    run = ilsvrc.run(**asked)
    assert run.done() == {"back_up_to_s3"}
    assert _fetched(ilsvrc) == []
    events = len(asset_events())
    run = ilsvrc.run(**asked)
    assert (run.state, run.states()) == ("success", {"skipped"}), "a rerun has nothing to do"
    assert len(asset_events()) == events


def test_a_login_comes_from_the_connection_and_appears_nowhere(
    ilsvrc: Site,
    archives: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    canary = "canary-4712"
    with FaultServer((archives / TRAIN).read_bytes()) as server:
        server.admits = lambda request: f"session={canary}" in (request.headers["Cookie"] or "")
        connection = {
            "conn_type": "http",
            "host": f"127.0.0.1:{server.port}",
            "schema": "http",
            "extra": {"cookie": f"session={canary}"},
        }
        conf = {"source_train": server.url, "s3_uri": "none", "ebs_volume_id": "none"}
        refused = ilsvrc.run(**conf)
        assert refused.tasks["download[0]"] == "failed"
        monkeypatch.setenv("AIRFLOW_CONN_IMAGENET_DEFAULT", json.dumps(connection))
        assert ilsvrc.run(**conf).state == "success"
    printed = caplog.text + "".join(capfd.readouterr())
    assert "AuthenticationRequired" in printed
    assert canary not in printed
    for path in ilsvrc.data_dir.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path


def _fetched(site: Site) -> list[Path]:
    return sorted(path for path in (site.data_dir / "archives").rglob("*.tar*") if _is_data(path))


def _is_data(path: Path) -> bool:
    return path.name in (TRAIN, VAL, DEVKIT)

"""What goes wrong on the way from ILSVRC2012's archives: each fault is typed, and nothing is lost.

After the trouble is mended, the next run goes on from where the last one stopped.
"""

import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.downloads import MIB
from tests.support.fault_server import LOGIN_PAGE, Answer, FaultServer
from tests.support.ilsvrc import DEVKIT, SIZE, TRAIN, VAL, build_sample, ilsvrc_build
from tests.support.tars import Entry, raw_tar

from imagenet_etl.build import Build
from imagenet_etl.download.retry import Patience
from imagenet_etl.errors import (
    AuthenticationRequired,
    BadArchive,
    LabelError,
    SourceUnavailable,
    TransientError,
)
from imagenet_etl.labels.devkit import Synset
from imagenet_etl.pipeline import find_receipt, run_stage
from imagenet_etl.samples.devkit import ROOT, devkit_files
from imagenet_etl.verify import verify_folder


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ilsvrc") / "archives"
    build_sample(folder)
    return folder


@pytest.fixture
def archives(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample, tmp_path / "publisher"))


@pytest.fixture
def server(archives: Path) -> Iterator[FaultServer]:
    with FaultServer((archives / TRAIN).read_bytes()) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a server soon."""
    quick = Patience.__init__

    def soon(self: Patience, *_: object, **__: object) -> None:
        quick(self, budget_s=0.3, base_s=0.001)

    monkeypatch.setattr(Patience, "__init__", soon)


def build(tmp_path: Path, archives: Path, **sources: str) -> Build:
    places = {name: str(archives / name) for name in (TRAIN, VAL, DEVKIT)}
    return ilsvrc_build(tmp_path / "data", places | sources)


def run_all(build: Build) -> list[str]:
    """Run all stages; return those that had something to do."""
    with build.locked() as build:
        return [name for name in build.facts.stages if not run_stage(build, name).reused]


def assert_nothing_published(tmp_path: Path) -> None:
    assert not (tmp_path / "data/datasets/ilsvrc2012").exists()


def assert_complete(tmp_path: Path) -> None:
    (version,) = (p for p in (tmp_path / "data/datasets/ilsvrc2012").iterdir() if p.is_dir())
    assert verify_folder(version)["records"] == SIZE.labelled


@pytest.mark.usefixtures("impatient")
def test_a_server_that_fails_and_comes_back_is_taken_up_where_it_stopped(
    tmp_path: Path, archives: Path, server: FaultServer
) -> None:
    server.content += bytes(3 * MIB - len(server.content))  # a tar may end in any number of zeros
    cut = 2 * MIB + 99
    server.script = [Answer(drop_at=cut)]
    server.always = Answer(status=503)
    here = build(tmp_path, archives, **{TRAIN: server.url})
    with pytest.raises(SourceUnavailable, match="503") as caught:
        run_all(here)
    assert isinstance(caught.value, TransientError)
    assert_nothing_published(tmp_path)
    server.always, asked = Answer(), len(server.requests)
    assert run_all(here) == list(here.facts.stages)
    assert [r.headers["Range"] for r in server.requests[asked:]] == [f"bytes={2 * MIB}-"]
    assert_complete(tmp_path)


def test_a_login_page_is_recognised_and_the_next_run_fetches_the_archive(
    tmp_path: Path, archives: Path, server: FaultServer
) -> None:
    server.script = [Answer(body=LOGIN_PAGE, headers={"Content-Type": "text/html"})]
    here = build(tmp_path, archives, **{TRAIN: server.url})
    with pytest.raises(AuthenticationRequired, match="imagenet_default"):
        run_all(here)
    assert not list((tmp_path / "data/archives").rglob("*.tar"))
    assert_nothing_published(tmp_path)
    run_all(here)
    assert_complete(tmp_path)


def test_a_truncated_class_tar_is_named_and_the_mended_archive_goes_on(
    tmp_path: Path, archives: Path
) -> None:
    whole = (archives / TRAIN).read_bytes()
    name = _shorten_last_class(archives / TRAIN)
    here = build(tmp_path, archives)
    with pytest.raises(BadArchive, match=f"{TRAIN}: {name}"):
        run_all(here)
    assert_nothing_published(tmp_path)
    (archives / TRAIN).write_bytes(whole)
    notes = {p: p.stat().st_mtime_ns for p in (tmp_path / "data/work").rglob("in-place/*.json")}
    assert run_all(here) == list(here.facts.stages)
    assert_complete(tmp_path)
    again = [path for path, written in notes.items() if path.stat().st_mtime_ns != written]
    assert len(notes) == 3
    assert len(again) == 1, "only the mended archive is read again"


def test_a_ground_truth_with_a_line_too_few_is_refused_and_the_right_one_goes_on(
    tmp_path: Path,
) -> None:
    """The whole 50,000, since that is the case that happens: a file cut by its last line."""
    wnids = [f"n{number:08d}" for number in range(1, 1001)]
    synsets = [Synset(n, wnid, f"class {n}") for n, wnid in enumerate(reversed(wnids), 1)]
    val = {f"ILSVRC2012_val_{n:08d}.JPEG": wnids[n * 7 % 1000] for n in range(1, 50_001)}
    archives = tmp_path / "publisher"
    archives.mkdir()
    (archives / VAL).write_bytes(raw_tar(Entry(name.encode(), b"x") for name in val))
    kit = devkit_files(synsets, val, 1)
    _write_kit(archives / DEVKIT, kit, lines=49_999)
    here = ilsvrc_build(
        tmp_path / "data", {VAL: str(archives / VAL), DEVKIT: str(archives / DEVKIT)}
    )
    for name in ("download", "untar"):
        run_stage(here, name)
    with pytest.raises(LabelError, match="no line for 1 validation images") as caught:
        run_stage(here, "restructure_val")
    told = str(caught.value)
    assert "expected 50,000 lines, found 49,999" in told
    assert "the first image without one is ILSVRC2012_val_00050000.JPEG" in told
    assert find_receipt(here, "restructure_val") is None
    _write_kit(archives / DEVKIT, kit, lines=50_000)
    for name in ("download", "untar", "restructure_val"):
        receipt = run_stage(here, name).receipt
    assert receipt.counts == {"val_labels": 50_000}


def _shorten_last_class(path: Path) -> str:
    """Cut the last class tar inside the archive in the middle; return its name."""
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    name, data = members[-1]
    members[-1] = (name, data[: len(data) // 2 // 512 * 512])
    path.write_bytes(raw_tar(Entry(name.encode(), data) for name, data in members))
    return name


def _write_kit(path: Path, files: dict[str, bytes], lines: int) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            if name.endswith("ground_truth.txt"):
                data = b"".join(data.splitlines(keepends=True)[:lines])  # noqa: PLW2901
            info = tarfile.TarInfo(f"{ROOT}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

"""A small published version in all formats, and what can happen to a copy of it."""

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl import shards
from imagenet_etl.errors import DatasetDamaged, SchemaTooNew
from imagenet_etl.manifest import ManifestFile, parse_manifest
from imagenet_etl.samples import SampleSize
from imagenet_etl.verify import verify_folder

FORMATS = ("recordio", "lmdb:fill:64x64", "webdataset", "imagefolder")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The version's folder: two training shards of one segment each, one of two for validation."""
    folder = tmp_path_factory.mktemp("published")
    archive = tiny_zip(folder, size=SampleSize(classes=2, train=3, val=2, test=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SEGMENT_RECORDS", 3)
        build = build_of(folder, archive, formats=FORMATS, shards=2, workers=2)
        base = run_stages(build)["verify"].base
    path = build.storage.local_path(base)
    assert path is not None
    yield path
    shutil.rmtree(folder)


@pytest.fixture
def version(published: Path, tmp_path: Path) -> Path:
    """A copy of the published version that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "version"))


@pytest.fixture
def refusal(version: Path) -> Callable[[], str]:
    """Verify the version, which has to fail, and return what it says, without dots in paths."""

    def verify() -> str:
        with pytest.raises((DatasetDamaged, SchemaTooNew)) as caught:
            verify_folder(version)
        return str(caught.value).replace("/./", "/")

    return verify


@pytest.fixture
def forge(version: Path) -> Callable[[str, bytes], None]:
    """Replace a file and its digest in the manifest: only the content can tell now."""

    def replaced(name: str, data: bytes) -> None:
        (version / name).write_bytes(data)
        path = version / "manifest.json"
        manifest = parse_manifest(path.read_bytes(), "manifest.json")
        entry = ManifestFile(name, len(data), hashlib.sha256(data).hexdigest())
        files = tuple(entry if file.name == name else file for file in manifest.files)
        path.write_bytes(replace(manifest, files=files).to_json())

    return replaced


@pytest.fixture
def forge_table(
    version: Path, forge: Callable[[str, bytes], None]
) -> Callable[[str, Callable[[pa.Table], pa.Table]], None]:
    """Change a Parquet table, and its digest in the manifest."""

    def changed(name: str, change: Callable[[pa.Table], pa.Table]) -> None:
        out = io.BytesIO()
        pq.write_table(change(pq.read_table(version / name)), out)
        forge(name, out.getvalue())

    return changed

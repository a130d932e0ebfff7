"""What DAG tests share: a sample archive on a web server, AWS on the loopback, a data folder."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_runs import Run, aws_connection, run_dag
from tests.support.moto_server import MotoServer

from imagenet_etl.samples import SAMPLES, SampleSize

ARCHIVE = "tiny-imagenet-200.zip"
SIZE = SampleSize(classes=4, train=6, val=2, test=3)
BUCKET = "backups"


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site") / ARCHIVE
    SAMPLES["tiny_imagenet"](path, None, SIZE)
    return path


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep URLs out of the captured output, where tests search for secrets."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder's files over HTTP; yields the URL of the folder."""
    handler = partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="session")
def archive_url(archive: Path) -> Iterator[str]:
    with served(archive.parent) as url:
        yield f"{url}/{archive.name}"


@dataclass
class Site:
    """A site with the DAG installed: what its Variables say, and its AWS account."""

    data_dir: Path
    moto: MotoServer
    conf: dict[str, Any]
    volume: str
    dag: str = "tiny_imagenet"

    def run(self, **conf: Any) -> Run:
        return run_dag(self.dag, self.conf | conf)

    def versions(self) -> list[Path]:
        """The published versions, oldest first."""
        folders = (p for p in (self.data_dir / "datasets" / self.dag).iterdir() if p.is_dir())
        return sorted(folders, key=lambda path: (path / "manifest.json").stat().st_mtime_ns)

    def version(self) -> Path:
        """The one published version."""
        (version,) = self.versions()
        return version

    def objects(self) -> dict[str, str]:
        """Every object of the bucket with the time it was written."""
        pages = self.moto.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        items = (item for page in pages for item in page.get("Contents", ()))
        return {item["Key"]: str(item["LastModified"]) for item in items}

    def snapshots(self) -> list[dict[str, Any]]:
        """Every snapshot of this account's own volume."""
        filters = [{"Name": "volume-id", "Values": [self.volume]}]
        reply = self.moto.client("ec2").describe_snapshots(OwnerIds=["self"], Filters=filters)
        return list(reply["Snapshots"])


@pytest.fixture
def site(
    tmp_path: Path, moto: MotoServer, archive_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    moto.bucket(BUCKET)
    ec2 = moto.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    data_dir = tmp_path / "data"
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_DATA_DIR", str(data_dir))
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_S3_URI", f"s3://{BUCKET}/datasets")
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_EBS_VOLUME_ID", volume)
    conf = {"source": archive_url, "expect": "any", "formats": ["recordio", "imagefolder"]}
    with aws_connection(monkeypatch, moto.url):
        yield Site(data_dir, moto, conf, volume)

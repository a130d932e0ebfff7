"""Restores that are cut, refused, raced and killed end in a whole version or in none."""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ResponseStreamingError
from tests.support.airflow_runs import files_below
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.builds import tiny_build
from tests.support.certificates import loopback_certificate
from tests.support.children import start_python
from tests.support.downloads import MIB, archive_bytes, quick
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer
from tests.support.restores import BACKUP, back_up_folder

from imagenet_etl.aws.s3_restore import Restored, read_backed_up, restore_version
from imagenet_etl.aws.s3_restore_file import Restorer
from imagenet_etl.build import Build
from imagenet_etl.errors import AccessDenied, ChecksumMismatch, ClockSkewed, SourceUnavailable
from imagenet_etl.manifest import ManifestFile

SEED = 20120624
LARGE = archive_bytes(7, 3 * MIB + 99)
FILE = ManifestFile("large.rec", len(LARGE), hashlib.sha256(LARGE).hexdigest())
KEY = {"Bucket": "backups", "Key": "set/large.rec"}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    build = build_of(folder, tiny_zip(folder), formats=("recordio", "imagefolder"), version="v1")
    run_stages(build)
    return Path(build.settings.data_dir, build.published, "v1")


@pytest.fixture
def client(version: Path, moto: MotoServer) -> Any:
    moto.bucket("backups")
    client = moto.client("s3")
    back_up_folder(client, version)
    client.put_object(**KEY, Body=LARGE)
    return client


@pytest.fixture
def proxy(moto: MotoServer, client: Any) -> Iterator[FaultProxy]:
    with fault_proxy(moto.url) as proxy:
        yield proxy


def fresh(data: Path, make: Callable[..., Any]) -> Build:
    return replace(tiny_build(data, s3_uri=BACKUP, version="v1"), aws=make)


def hasty(server: MotoServer) -> Callable[..., Any]:
    """Return what makes clients that leave all retries to the caller."""
    return lambda service, **_: server.client(service, retries={"max_attempts": 1})


def restored(build: Build, above: int = 4096) -> Restored:
    with build.locked() as locked:
        backed_up = read_backed_up(locked, "v1")
        return restore_version(locked, backed_up, 3, quick, in_ranges_above=above)


def folder_of(data: Path) -> Path:
    return data / "datasets" / "tiny_imagenet" / "v1"


@pytest.mark.parametrize("above", [0, 8 << 20])
def test_answers_that_are_cut_short_are_asked_for_again(
    tmp_path: Path, version: Path, proxy: FaultProxy, above: int
) -> None:
    proxy.rewrite("GetObject", lambda body: body[: len(body) // 2], skip=3, times=1)
    restored(fresh(tmp_path, hasty(proxy)), above)
    assert files_below(folder_of(tmp_path)) == files_below(version)


@pytest.mark.parametrize("above", [0, 8 << 20])
def test_connections_that_break_are_made_again(
    tmp_path: Path, version: Path, proxy: FaultProxy, above: int
) -> None:
    proxy.drop_reply("GetObject", times=4, skip=2)
    proxy.drop_request("GetObject", times=4, skip=9)
    restored(fresh(tmp_path, hasty(proxy)), above)
    assert files_below(folder_of(tmp_path)) == files_below(version)


@pytest.mark.parametrize("above", [0, 8 << 20])
def test_a_burst_of_slow_down_is_waited_out(
    tmp_path: Path, version: Path, proxy: FaultProxy, above: int
) -> None:
    proxy.answer("GetObject", status=503, code="SlowDown", times=12, skip=2)
    proxy.answer("HeadObject", status=503, code="SlowDown", times=5)
    restored(fresh(tmp_path, hasty(proxy)), above)
    assert files_below(folder_of(tmp_path)) == files_below(version)


def test_slow_down_for_ever_is_transient_and_publishes_nothing(
    tmp_path: Path, proxy: FaultProxy
) -> None:
    proxy.answer("GetObject", status=503, code="SlowDown", times=1 << 20, skip=4)
    build = fresh(tmp_path, hasty(proxy))
    with pytest.raises(SourceUnavailable), build.locked() as locked:
        impatient = replace(quick(), budget_s=0.2, first_budget_s=0.2)
        restore_version(locked, read_backed_up(locked, "v1"), 3, lambda: replace(impatient))
    assert not folder_of(tmp_path).exists()
    proxy.heal()
    assert restored(build).kept_bytes > 0


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(403, "AccessDenied", AccessDenied), (403, "RequestTimeTooSkewed", ClockSkewed)],
)
def test_what_no_retry_mends_is_asked_once(
    tmp_path: Path, proxy: FaultProxy, status: int, code: str, error: type[Exception]
) -> None:
    proxy.answer("GetObject", status=status, code=code, times=1 << 20)
    with pytest.raises(error):
        restored(fresh(tmp_path, hasty(proxy)))
    assert proxy.calls == ["GetObject"]
    assert not folder_of(tmp_path).exists()


class Breaking:
    """A client whose first bodies break off, each after some bytes."""

    def __init__(self, client: Any, at: list[int]) -> None:
        self.client, self.at = client, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get_object(self, **request: Any) -> Any:
        reply = self.client.get_object(**request)
        return reply | ({"Body": Broken(reply["Body"], self.at.pop(0))} if self.at else {})


class Broken:
    def __init__(self, body: Any, at: int) -> None:
        self.body, self.at = body, at

    def read(self, _: int) -> bytes:
        raise ResponseStreamingError(error="connection broken")

    def iter_chunks(self, _: int) -> Iterator[bytes]:
        yield self.body.read(self.at)
        raise ResponseStreamingError(error="connection broken")

    def close(self) -> None:
        self.body.close()


@pytest.mark.parametrize("above", [MIB, 8 * MIB])
def test_a_body_that_breaks_off_is_asked_for_again(tmp_path: Path, client: Any, above: int) -> None:
    broken = restorer(tmp_path, Breaking(client, [MIB + 5, 100, MIB]))
    replace(broken, in_ranges_above=above).restore(FILE, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == LARGE


@pytest.mark.parametrize("above", [MIB, 8 * MIB])
def test_a_tls_record_that_is_damaged_in_a_body_is_asked_for_again(
    tmp_path: Path, client: Any, moto: MotoServer, above: int
) -> None:
    with fault_proxy(moto.url, loopback_certificate(tmp_path)) as proxy:
        proxy.spoil("GetObject", times=2)
        here = restorer(tmp_path / "here", proxy.client("s3", retries={"max_attempts": 1}))
        replace(here, in_ranges_above=above).restore(FILE, tmp_path / "got")
        assert proxy.calls.count("GetObject") >= 3
    assert (tmp_path / "got").read_bytes() == LARGE


class Replacing:
    """A client behind whose back an object is replaced after each look at it."""

    def __init__(self, client: Any, contents: list[bytes]) -> None:
        self.client, self.contents = client, contents

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def head_object(self, **request: Any) -> Any:
        reply = self.client.head_object(**request)
        if self.contents:
            self.client.put_object(**KEY, Body=self.contents.pop(0))
        return reply


def restorer(folder: Path, client: Any) -> Restorer:
    folder.mkdir(exist_ok=True)
    build = fresh(folder, lambda *_, **__: client)
    return Restorer(build, client, "backups", "set", folder, 2, quick, in_ranges_above=MIB)


def test_an_object_that_is_replaced_between_look_and_read_is_refused(
    tmp_path: Path, client: Any
) -> None:
    other = archive_bytes(8, len(LARGE))
    with pytest.raises(ChecksumMismatch, match="not the file that the manifest names"):
        restorer(tmp_path, Replacing(client, [other])).restore(FILE, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_an_object_that_is_put_right_meanwhile_is_taken(tmp_path: Path, client: Any) -> None:
    client.put_object(**KEY, Body=archive_bytes(8, len(LARGE)))
    restorer(tmp_path, Replacing(client, [LARGE])).restore(FILE, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == LARGE
    assert [path.name for path in tmp_path.iterdir()] == ["got"]


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.faults.test_restore_faults import fresh, restored, restorer, FILE
    from tests.support.moto_server import MotoServer
    from imagenet_etl.aws.s3_restore_file import Restorer
    from imagenet_etl.download import s3

    what, url, data, after = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    moto, left = MotoServer(url), [after]

    def dying(step):
        def stepped(*args):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args)
        return stepped

    if what == "version":
        Restorer.restore = dying(Restorer.restore)
        restored(fresh(data, moto.client))
    else:
        from imagenet_etl.download.part import PartFile
        PartFile._finish = dying(PartFile._finish)
        restorer(data, moto.client("s3")).restore(FILE, data / "got")
"""


def run_until_killed(what: str, moto: MotoServer, data: Path, after: int) -> None:
    child = start_python(KILLED, what, moto.url, data, after)
    child.communicate(timeout=120)
    assert child.returncode == -9


def test_a_restore_that_is_killed_is_gone_on_with(
    tmp_path: Path, version: Path, moto: MotoServer, client: Any
) -> None:
    after = random.Random(SEED).randint(3, 12)
    print(f"seed {SEED}: killed after {after} files")
    run_until_killed("version", moto, tmp_path, after)
    assert not folder_of(tmp_path).exists()
    done = restored(fresh(tmp_path, moto.client))
    assert done.kept_bytes > 0
    assert files_below(folder_of(tmp_path)) == files_below(version)


def test_a_large_file_that_is_killed_is_gone_on_with_in_its_middle(
    tmp_path: Path, moto: MotoServer, client: Any
) -> None:
    run_until_killed("file", moto, tmp_path / "data", 2)
    assert not (tmp_path / "data" / "got").exists()
    fetched = restorer(tmp_path / "data", client).restore(FILE, tmp_path / "data" / "got")
    assert (tmp_path / "data" / "got").read_bytes() == LARGE
    assert fetched < len(LARGE)

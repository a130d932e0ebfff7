"""A download in slices, run by Airflow: the task comes again, neither as a failure nor as a try."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from tests.dags.conftest import Site
from tests.support.airflow_runs import task_tries
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl.verify import verify_folder

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(180)]


def test_a_slow_download_takes_several_slices_and_one_try(
    site: Site, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imagenet_operators import DownloadOperator

    monkeypatch.setattr(DownloadOperator, "slice_s", 2.5)
    # A zip is found from its end, so anything may stand before it.
    content = b"PK\x03\x04" + random.Random(1).randbytes(18 << 20) + archive.read_bytes()
    with FaultServer(content, f"/{archive.name}") as server:
        server.always = Answer(pause_s=0.02)
        slow = replace(site, conf=site.conf | {"source": server.url, "connections": 1})
        run = slow.run(formats=["recordio"], s3_uri="none", ebs_volume_id="none")
    assert run.state == "success"
    assert task_tries(run, "download") == 1
    resumed = [request for request in server.requests if request.headers["Range"]]
    assert len(resumed) >= 1, "there were several slices"
    assert verify_folder(slow.version())["records"] > 0

"""The demo: a sample archive on a local web server, AWS played by moto, the DAG run by Airflow.

Everything lives below .demo/<kind>/, also what AWS remembers from one demo to the next.
"""

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "imagenet-demo"
ARCHIVE = "tiny-imagenet-200.zip"


def main() -> int:
    args = parse_args()
    home = home_of(args)
    home.mkdir(parents=True, exist_ok=True)
    if args.real:
        return demo(home, None)
    archive = make_sample(home, args.images)
    with web_server(archive.parent, port_for(home, "web")) as server:
        return demo(home, server)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--images", type=lambda text: Path(os.environ["DEMO_CWD"], text).resolve(),
        help="folder or tar of JPEGs to build the sample from (default: generated images)",
    )  # fmt: skip
    choice.add_argument(
        "--real", action="store_true", help="download Stanford's zip (248 MB) instead of a sample"
    )
    return parser.parse_args()


def home_of(args: argparse.Namespace) -> Path:
    """Return the demo's folder: one for each source of images."""
    if args.real:
        return ROOT / ".demo" / "real"
    if args.images is None:
        return ROOT / ".demo" / "generated"
    return ROOT / ".demo" / f"images-{hashlib.sha256(str(args.images).encode()).hexdigest()[:8]}"


def make_sample(home: Path, images: Path | None) -> Path:
    """Build the sample archive, once: of 2,500 generated images, or of up to as many given ones."""
    archive = home / "site" / ARCHIVE
    if archive.exists():
        return archive
    count = 2500 if images is None else min(2500, count_images(images))
    if count < 2:
        sys.exit(f"demo: {images} holds {count} JPEGs, the sample needs two or more")
    classes = min(20, count // 2)
    each = count // classes
    val = max(1, each // 6)
    train = max(1, each - val - (each > 2))
    size = {"classes": classes, "train": train, "val": val, "test": count - classes * (train + val)}
    command = [sys.executable, "-m", "imagenet_etl", "sample", "tiny_imagenet"]
    command += [part for name, value in size.items() for part in (f"--{name}", str(value))]
    given = ["--images", str(images)] if images else []
    if subprocess.run([*command, "--out", str(archive), *given]).returncode:
        sys.exit("demo: the sample could not be built")
    return archive


def count_images(source: Path) -> int:
    """Count what the sample builder would take as a JPEG."""
    if not source.exists():
        sys.exit(f"demo: {source} does not exist")
    if source.is_dir():
        names = [path.name for path in source.rglob("*") if path.is_file()]
    else:
        with tarfile.open(source) as tar:
            names = [member.name for member in tar if member.isreg()]
    return sum(name.lower().endswith((".jpeg", ".jpg")) for name in names)


class WebServer:
    """Serves a folder on the loopback and counts the bytes it sends."""

    def __init__(self, folder: Path, port: int) -> None:
        self.sent = 0
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def copyfile(self, source, outputfile):
                outer.sent += os.fstat(source.fileno()).st_size
                super().copyfile(source, outputfile)

            def log_message(self, *_: object) -> None:
                """Keep the terminal for the demo."""

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{port}/{ARCHIVE}"


@contextlib.contextmanager
def web_server(folder: Path, port: int) -> Iterator[WebServer]:
    web = WebServer(folder, port)
    threading.Thread(target=web.server.serve_forever, daemon=True).start()
    try:
        yield web
    finally:
        web.server.shutdown()


def port_for(home: Path, name: str) -> int:
    """Return the port of an earlier demo if it is free, since URLs are settings of the run."""
    note = home / f"{name}.port"
    wanted = [int(note.read_text())] if note.exists() else []
    for port in (*wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found = probe.getsockname()[1]
                note.write_text(str(found))
                return found
    raise OSError("no free port on the loopback")


class Aws:
    """The stand-in for AWS, see aws_server.py."""

    def __init__(self, url: str, recording: Path) -> None:
        self.url = url
        self._recording = recording

    def client(self, service: str):
        import boto3

        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id="demo", aws_secret_access_key="demo",
        )  # fmt: skip

    def changes(self) -> int:
        """Return how many calls changed anything since it was first started."""
        return len(self._recording.read_text().splitlines()) if self._recording.exists() else 0

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/moto-api/data.json").close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit("demo: the stand-in for AWS did not start, see .demo/*/aws.log")
                time.sleep(0.1)

    def furnish(self) -> None:
        """Make what a user brings along: a bucket and a data volume."""
        if not self.changes():
            self.client("s3").create_bucket(Bucket=BUCKET)
            self.client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=8)

    def volume(self) -> str:
        return self.client("ec2").describe_volumes()["Volumes"][0]["VolumeId"]


@contextlib.contextmanager
def aws(home: Path) -> Iterator[Aws]:
    port = port_for(home, "aws")
    recording = home / "aws.recording"
    command = [sys.executable, str(ROOT / "scripts/lib/aws_server.py"), str(port), str(recording)]
    with (home / "aws.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Aws(f"http://127.0.0.1:{port}", recording)
        server.wait()
        server.furnish()
        yield server
    finally:
        process.terminate()
        process.wait()


def demo(home: Path, web: WebServer | None) -> int:
    with aws(home) as cloud:
        conf = {"formats": ["recordio", "imagefolder"]}
        if web is not None:
            conf |= {"source": web.url, "expect": "any"}
        conf |= {"s3_uri": f"s3://{BUCKET}/backup", "ebs_volume_id": cloud.volume()}
        before = cloud.changes()
        say(f"running the DAG tiny_imagenet in Airflow (log: {shown(home / 'airflow.log')})")
        start = time.monotonic()
        state, tasks, build = run_dag(home, conf, cloud.url)
        mutating = cloud.changes() - before
        print_table(tasks, build)
        say(f"\nDAG run: {state} in {time.monotonic() - start:.0f} s")
        if state != "success":
            return 1
        print_summary(tasks, build, web, mutating)
    return 0


def run_dag(home: Path, conf: dict, endpoint: str):
    """Run the DAG in this process; return its state, its tasks by id, and the library's view."""
    os.environ |= {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow' / 'airflow.db'}",
        "AIRFLOW_VAR_IMAGENET_DATA_DIR": str(home / "data"),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(
            {
                "conn_type": "aws", "login": "demo", "password": "demo",
                "extra": {"region_name": "us-east-1", "endpoint_url": endpoint},
            }
        ),
    }  # fmt: skip
    (home / "airflow").mkdir(exist_ok=True)
    with output_to(home / "airflow.log"):
        from airflow.dag_processing.dagbag import DagBag
        from airflow.utils import db

        db.initdb()
        dag = DagBag(str(ROOT / "dags")).dags["tiny_imagenet"]
        run = dag.test(run_conf=conf)
        tasks = {ti.task_id: ti for ti in run.get_task_instances()}
    return run.state, tasks, find_build(home, f"tiny_imagenet:{run.run_id}", endpoint)


def find_build(home: Path, run: str, endpoint: str):
    from imagenet_etl.build import frozen_settings, new_build
    from imagenet_etl.leases import Owner
    from imagenet_etl.storage import LocalStorage

    storage = LocalStorage(home / "data")
    settings = frozen_settings(storage, "tiny_imagenet", run)
    return new_build(settings, Owner(run), Aws(endpoint, home / "aws.recording").client)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send everything that Airflow and its workers print to a file."""
    sys.stdout.flush()
    saved = os.dup(1), os.dup(2)
    with path.open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, fd in enumerate(saved, 1):
            os.dup2(fd, number)
            os.close(fd)


def print_table(tasks: dict, build) -> None:
    from imagenet_etl.pipeline import STAGES, find_receipt

    say(f"\n{'stage':<16} {'state':<8} {'items':>7} {'MB':>7} {'seconds':>8}")
    for name in (name for name in [*STAGES, "publish"] if name in tasks):
        receipt = find_receipt(build, name) if name in STAGES else None
        items, size = amounts(receipt) if receipt else ("", "")
        seconds = f"{tasks[name].duration or 0:.1f}"
        say(f"{name:<16} {tasks[name].state or '-':<8} {items:>7} {size:>7} {seconds:>8}")


def amounts(receipt) -> tuple[str, str]:
    """Return how many items a stage's result has and how many MB it takes."""
    counts = receipt.counts
    for name in ("packed", "files", "segments", "val_labels", "train_images", "archives"):
        if name in counts:
            items = f"{counts[name]:,}"
            break
    else:
        items = "1"
    size = counts.get("bytes") or sum(output.size for output in receipt.outputs)
    return items, f"{size / 1e6:.1f}" if size else ""


def print_summary(tasks: dict, build, web: WebServer | None, mutating: int) -> None:
    from imagenet_etl.pipeline import receipts_up_to

    done = receipts_up_to(build, "verify")
    ran = {name for name, ti in tasks.items() if ti.state == "success"}
    fetched = done["download"].facts["bytes_fetched"] if "download" in ran else 0
    fetched = web.sent if web is not None else fetched
    packed = done["pack"].counts["packed"] if "pack" in ran else 0
    say(f"bytes fetched: {fetched:,}; records packed: {packed:,}; AWS calls that change anything: "
        f"{mutating}")  # fmt: skip
    if not ran:
        say("nothing to do: every receipt is valid, every task was skipped")
    folder = Path(done["verify"].facts["path"])
    backup = receipts_up_to(build, "back_up_to_s3")["back_up_to_s3"].facts["uri"]
    snapshot = receipts_up_to(build, "snapshot_ebs")["snapshot_ebs"].facts["snapshot_id"]
    say(f"\ndataset   {folder}\nbackup    {backup} (played by moto)\n"
        f"snapshot  {snapshot} (played by moto)")  # fmt: skip
    shard = folder / "recordio" / "train" / "train_00000.rec"
    say(
        f"\nRead it, with PYTHONPATH={ROOT / 'include'} {ROOT / '.venv/bin/python'}:\n\n"
        "  from imagenet_etl.readers import RecordIoReader\n"
        f'  reader = RecordIoReader("{shard}")\n'
        "  print(len(reader), reader[0].labels, reader[0].image[:4])"
    )


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

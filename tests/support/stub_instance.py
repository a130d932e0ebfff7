"""An EC2 instance that is a folder: its metadata service, its disks, its tables."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

TOKEN = "a-token-of-imds"


def run_as_file(folder: Path, text: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script as SSM and cloud-init do: from a file, without a terminal."""
    script = folder / "script"
    script.write_text(text)
    script.chmod(0o700)
    return subprocess.run(
        [script], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100
    )


@contextmanager
def loop_disk(image: Path, mib: int = 320) -> Iterator[Path]:
    """Make a disk of a sparse file; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    with image.open("ab") as file:
        file.truncate(mib << 20)
    made = subprocess.run(
        ["losetup", "--find", "--show", "--partscan", image], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def partition_disk(device: Path, starts: tuple[int, ...] = (2048,), sectors: int = 32768) -> None:
    """Write a DOS partition table; the kernel is told to read it."""
    entries = b"".join(struct.pack("<B3xB3xII", 0, 0x83, start, sectors) for start in starts)
    device.write_bytes(bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa")
    subprocess.run(["blockdev", "--rereadpt", device], capture_output=True)


@contextmanager
def folder_unmounted_after(folder: Path) -> Iterator[Path]:
    """Unmount, at the end, whatever a test has mounted there."""
    try:
        yield folder
    finally:
        while subprocess.run(["mountpoint", "-q", folder]).returncode == 0:
            subprocess.run(["umount", folder], check=True)


def source_of(folder: Path) -> str:
    """Return device and options of what is mounted there; empty for nothing."""
    words = ["findmnt", "-n", "-r", "--mountpoint", folder, "-o", "SOURCE,OPTIONS"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


@dataclass
class Instance:
    """The folder that scripts take for the machine's root, and what it knows of itself."""

    root: Path
    metadata: dict[str, str]
    imds: str = ""
    disks: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dev/disk/by-id", "etc", "var/log", "var/lib/cloud/scripts/per-boot", "run"):
            (self.root / name).mkdir(parents=True)
        self.fstab.write_text("# the machine's own\nUUID=1234 / ext4 defaults 0 1\n")

    @property
    def fstab(self) -> Path:
        return self.root / "etc/fstab"

    def plug(self, volume_id: str, device: Path) -> None:
        """Let a device be the attached volume, as udev shows it on Nitro."""
        serial = volume_id.replace("-", "", 1)
        name = f"nvme-Amazon_Elastic_Block_Store_{serial}"
        link = self.root / "dev/disk/by-id" / name
        if not link.is_symlink():
            link.symlink_to(device)

    def environment(self, *path: Path) -> dict[str, str]:
        """Return the variables that make scripts see this machine."""
        return {
            "PATH": ":".join([*map(str, path), "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
            "IMAGENET_ETL_ROOT": str(self.root),
            "IMAGENET_ETL_IMDS": self.imds,
            "IMAGENET_ETL_PAUSE": "0.05",
            "no_proxy": "127.0.0.1",
        }


def launch_instance(ec2: Any, zone: str) -> str:
    """Launch an instance in the mock account; returns its id."""
    image = "ami-12c6146b"
    place = {"AvailabilityZone": zone}
    reply = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, Placement=place)
    return str(reply["Instances"][0]["InstanceId"])


@contextmanager
def instance(root: Path, instance_id: str, zone: str) -> Iterator[Instance]:
    """Serve the metadata of an instance, by IMDSv2 alone, until the block ends."""
    metadata = {
        "instance-id": instance_id,
        "placement/availability-zone": zone,
        "placement/region": zone[:-1],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            lives = "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
            ok = self.path == "/latest/api/token" and lives
            self._say(TOKEN if ok else None, 400)

        def do_GET(self) -> None:
            name = self.path.removeprefix("/latest/meta-data/")
            known = self.headers.get("X-aws-ec2-metadata-token") == TOKEN
            self._say(metadata.get(name) if known else None, 404 if known else 401)

        def _say(self, text: str | None, code: int) -> None:
            data = (text or "").encode()
            self.send_response(200 if text is not None else code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with ExitStack() as stack:
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        yield Instance(root, metadata, f"http://127.0.0.1:{server.server_port}")

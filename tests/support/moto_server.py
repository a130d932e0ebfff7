"""AWS on the loopback: moto's server in a thread of this process, reachable by any process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

REGION = "us-east-1"
ACCOUNT_ID = "123456789012"
"""moto's."""

_KEY_ID, _SECRET = "testing", "testing"


class MotoServer:
    """A running server; every client of it sees the same buckets, volumes and snapshots.

    Attributes:
        trusted: File of the certificate that its clients trust; empty without TLS.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.trusted = ""

    def client(self, service: str, region_name: str = REGION, **config: Any) -> Any:
        """Return a boto3 client; ``config`` goes to botocore's ``Config``."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=region_name,
            aws_access_key_id=_KEY_ID,
            aws_secret_access_key=_SECRET,
            verify=self.trusted or None,
            config=Config(s3={"addressing_style": "path"}, **config),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that lead any AWS SDK of another process here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "NO_PROXY": "127.0.0.1",
        }

    def bucket(self, name: str) -> str:
        """Create a bucket and return its URI."""
        self.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}"


class _OneAtATime:
    """moto looks for a key and then writes it; S3 does both in one step, so take turns here."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self._app = DomainDispatcherApplication(create_backend_app)
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        with self._turn:
            return self._app(environ, start_response)


@contextmanager
def moto_server() -> Iterator[MotoServer]:
    """Serve until the block ends, on a port that was free."""
    # Imported here because moto is slow to import, and clients in child processes do without it.
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, _OneAtATime(), threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="moto", daemon=True)
    thread.start()
    try:
        yield MotoServer(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

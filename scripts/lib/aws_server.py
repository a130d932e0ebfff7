"""moto's server with a memory: what changes its state is recorded, and replayed at the next start.

One JSON line a changing request, so the number of lines tells how many there were. Changing
requests run one at a time, each from its own seed, so that a replay gives the same ids.
"""

import base64
import io
import json
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from moto.moto_api._internal import mock_random
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.test import Client

_KEPT_HEADERS = ("CONTENT_TYPE", "HTTP_")


class Remembering:
    """WSGI middleware that records requests which change anything."""

    def __init__(self, app: Any, recording: Path) -> None:
        self._app = app
        self._recording = recording
        self._lock = threading.Lock()
        self._count = 0
        for line in recording.read_text().splitlines() if recording.exists() else ():
            self._replay(json.loads(line))

    def _replay(self, request: dict) -> None:
        mock_random.seed(self._count)
        self._count += 1
        body = base64.b64decode(request.pop("body"))
        Client(self._app).open(**request, data=body).close()

    def __call__(self, environ: dict, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if not changes(environ, body):
            return self._app(environ, start_response)
        with self._lock:
            mock_random.seed(self._count)
            self._count += 1
            reply = list(self._app(environ, start_response))
            with self._recording.open("a") as file:
                file.write(json.dumps(remembered(environ, body)) + "\n")
        return reply


def remembered(environ: dict, body: bytes) -> dict:
    kept = {k: v for k, v in environ.items() if k.startswith(_KEPT_HEADERS)}
    return {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query_string": environ["QUERY_STRING"],
        "environ_overrides": kept,
        "body": base64.b64encode(body).decode(),
    }


def changes(environ: dict, body: bytes) -> bool:
    """Tell whether a request of S3 (by its method) or EC2 (by its action) changes anything."""
    if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return False
    action = parse_qs(body.decode("latin-1")).get("Action", [""])[0]
    return not action.startswith(("Describe", "Get", "List"))


if __name__ == "__main__":
    port, path = sys.argv[1:]
    moto = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(port), Remembering(moto, Path(path)), threaded=True)
